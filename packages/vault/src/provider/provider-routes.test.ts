import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { must } from "@osr/base/assert";
import { HOUR_MS } from "@osr/base/units";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { forgetHistory } from "../database/history-retention.ts";
import { sampleRpo } from "../items/rpo-history.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type Life, protectedLife } from "../testing/test-life.ts";
import { type TestReply, VAULT_PATH, VERSION } from "../testing/test-vault.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const NETWORK = `${VAULT_PATH}/OpenSiteRecovery/networks/drill`;

async function own(life: Life, name: string, query = ""): Promise<TestReply> {
  const { id } = await life.item();
  return await life.vault.request("GET", `${id}/OpenSiteRecovery/${name}?${VERSION}${query}`);
}

test("a network of the recovery site is made, seen by ARM's clients, used by a test failover, and not deleted meanwhile", async () => {
  await using life = await protectedLife(postgres);
  const { vault, sr, at, site } = life;
  const [name, group] = at;
  const body = { properties: { subnet: "10.9.0.0/24", isIsolated: true } };
  const put = (sent: object): Promise<TestReply> =>
    vault.request("PUT", `${NETWORK}?${VERSION}`, { body: sent });
  assert.equal((await put(body)).status, 200);
  assert.equal((await put({ properties: { subnet: "10.8.0.0/24" } })).status, 409);
  assert.equal((await put({ properties: { subnet: "10.8.0.1/24" } })).status, 400);
  const ids: string[] = [];
  for await (const network of sr.replicationNetworks.listByReplicationFabrics(
    name,
    group,
    "Microsoft Azure",
  ))
    ids.push(network.id ?? "");
  const [networkId = ""] = ids;
  assert.match(networkId, /\/replicationNetworks\/drill$/);
  const shown = await sr.replicationNetworks.get(name, group, "Microsoft Azure", "drill");
  assert.deepEqual(shown.properties?.subnets?.[0]?.addressList, ["10.9.0.0/24"]);
  await sr.replicationProtectedItems.beginTestFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      networkType: "VmNetworkAsInput",
      networkId,
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.equal(site.replicas.size, 1);
  assert.equal((await vault.request("DELETE", `${NETWORK}?${VERSION}`)).status, 409);
  await sr.replicationProtectedItems.beginTestFailoverCleanupAndWait(...at, { properties: {} });
  assert.equal((await vault.request("DELETE", `${NETWORK}?${VERSION}`)).status, 204);
  assert.equal((await vault.request("GET", `${NETWORK}?${VERSION}`)).status, 404);
});

test("console and screen of a failed-over machine are shown, and refused while none runs", async () => {
  await using life = await protectedLife(postgres);
  assert.equal((await own(life, "console")).status, 409);
  await life.sr.replicationProtectedItems.beginTestFailoverAndWait(...life.at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      networkType: "NoNetworkAttachAsInput",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  const { body } = await own(life, "console");
  assert.deepEqual([body.properties.replica, body.properties.text], ["test", "login:"]);
  const screen = (await own(life, "screenshot", "&replica=test")).body.properties;
  assert.equal(Buffer.from(screen.base64, "base64").toString("latin1", 1, 4), "PNG");
  assert.equal((await own(life, "screenshot", "&replica=failover")).status, 409);
  assert.equal((await own(life, "console", "&replica=other")).status, 400);
  assert.equal((await own(life, "console", "&bytes=0")).status, 400);
});

test("while the replica host is away, looking says so, and a job that has to know waits for it", async () => {
  await using life = await protectedLife(postgres);
  await life.sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...life.at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      sourceSiteOperations: "NotRequired",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  for (const name of ["console", "screenshot"]) {
    life.site.looksAway = 1;
    const { status, body } = await own(life, name);
    const [detail] = body.error.details;
    assert.deepEqual([status, body.error.code], [503, "REPLICA_HOST_AWAY"]);
    assert.equal(detail.recommendedAction, "Start the replica host.");
    assert.equal((await own(life, name)).status, 200);
  }
  await life.sr.replicationProtectedItems.beginFailoverCommitAndWait(...life.at);
  life.site.looksAway = 2;
  await life.sr.replicationProtectedItems.beginDeleteAndWait(...life.at, {
    properties: {
      replicationProviderInput: { instanceType: "InMage", replicaVmDeletionStatus: "Delete" },
    },
  });
});

test("the age of the newest point is explained, and what the vault has in the storage account is counted", async () => {
  await using life = await protectedLife(postgres);
  const rpo = (await own(life, "rpo")).body.properties;
  assert.ok(rpo.rpoInSeconds > 0);
  assert.deepEqual(
    rpo.hops.map(({ hop }: { hop: string }) => hop),
    ["source", "processServer", "upload", "apply"],
  );
  const path = `${VAULT_PATH}/OpenSiteRecovery/storageUse?${VERSION}`;
  const use = (await life.vault.request("GET", path)).body.properties;
  assert.equal(use.recoveryPoints.objects, 3);
  assert.equal(use.disks.length, 1);
  assert.ok(use.bytes > use.disks[0].bytes);
  assert.ok(use.ageInSeconds <= 60 && Date.parse(use.countedTime) > 0);
});

test("how old the newest point was is kept for charts, and not for ever", async () => {
  await using life = await protectedLife(postgres);
  const { database } = life.vault.open;
  const now = systemClock.unixMs();
  const sampledAt = async (unixMs: number): Promise<void> =>
    sampleRpo({ database, clock: { unixMs: () => unixMs, monotonicMs: () => unixMs } });
  const history = async (query = ""): Promise<unknown[]> =>
    (await own(life, "rpoHistory", query)).body.properties.samples;
  assert.deepEqual(await history(), []);
  await sampledAt(now - 30 * HOUR_MS);
  await sampledAt(now - HOUR_MS / 2);
  const expected = {
    time: new Date(now - HOUR_MS / 2).toISOString(),
    rpoInSeconds: Math.floor((now - HOUR_MS / 2 - 12 * 15_000) / 1000),
  };
  assert.deepEqual(await history(), [expected]);
  assert.equal((await history("&hours=48")).length, 2);
  assert.equal((await own(life, "rpoHistory", "&hours=0")).status, 400);
  assert.equal((await own(life, "rpoHistory", "&hours=73")).status, 400);
  await sampledAt(now + 60 * HOUR_MS);
  assert.equal((await history("&hours=72")).length, 2, "the one of 90 hours before is forgotten");
});

test("a machine of the recovery site is listed and deleted though its item and its job are history, and only by its own vault", async () => {
  await using life = await protectedLife(postgres);
  const { vault, sr, at, site } = life;
  const replicas = (name: string): string =>
    `${VAULT_PATH}/OpenSiteRecovery/replicas${name}?${VERSION}`;
  const listed = async (): Promise<string[]> =>
    (await vault.request("GET", replicas(""))).body.value.map(({ name }: { name: string }) => name);
  await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      sourceSiteOperations: "NotRequired",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  const replicaId = must([...site.replicas.keys()][0], "a machine runs");
  assert.equal((await vault.request("DELETE", replicas(`/${replicaId}`))).status, 409);
  await sr.replicationProtectedItems.beginFailoverCommitAndWait(...at);
  await sr.replicationProtectedItems.beginDeleteAndWait(...at, { properties: {} });
  await forgetHistory(vault.open.database, systemClock.unixMs() + 100 * 24 * HOUR_MS);
  assert.deepEqual(await vault.open.database.selectFrom("job").select("id").execute(), []);
  assert.deepEqual(await listed(), [replicaId]);
  const other = VAULT_PATH.replace(/vault$/, "other");
  await vault.request("PUT", `${other}?${VERSION}`, {
    body: { location: "local", properties: {} },
  });
  const foreign = `${other}/OpenSiteRecovery/replicas/${replicaId}?${VERSION}`;
  assert.equal((await vault.request("DELETE", foreign)).status, 404);
  const { status, headers } = await vault.request("DELETE", replicas(`/${replicaId}`));
  assert.equal(status, 202);
  const job = String(headers.location).split("?")[0]?.split("/").at(-1);
  for (let state = ""; state !== "Succeeded"; await systemScheduler.sleep(20))
    state = (await vault.request("GET", `${VAULT_PATH}/replicationJobs/${job}?${VERSION}`)).body
      .properties.state;
  assert.equal(site.replicas.size, 0);
  assert.deepEqual(await listed(), []);
  assert.equal((await vault.request("DELETE", replicas(`/${replicaId}`))).status, 404);
});
