import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { must } from "@osr/base/assert";
import { systemClock } from "@osr/base/platform/system-clock";
import { listAll } from "@osr/repository/object-store";

import { legacyClient } from "../testing/official-clients.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { testMachine } from "../testing/test-fabric.ts";
import { VAULT_PATH, VERSION } from "../testing/test-vault.ts";
import { ITEM, enable, newLife, protectedLife, recoveryPoints } from "../testing/test-life.ts";
import { itemSymptoms } from "./item-health.ts";
import { replicate } from "../testing/test-replication.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

test("a machine is enabled: its disks get keys, its fabric learns of it, and the item tells how far it is", async () => {
  await using life = await newLife(postgres);
  await enable(life);
  const wish = must(await life.wish(), "wish");
  assert.equal(wish.isProtected, true);
  assert.equal(wish.pointIntervalSeconds, 300);
  assert.match(wish.grant.disks[0]?.dataKey ?? "", /^[0-9a-f]{64}$/);
  assert.equal((await life.item()).properties?.protectionState, "InitialReplicationPending");
  await life.report({
    state: "initial",
    disks: [
      {
        identity: "serial:a",
        name: "vda",
        sizeBytes: 2 ** 30,
        stage: "initial",
        progressPermille: 420,
        dirtyBytes: 5 * 2 ** 20,
        readBytes: 1,
        sentBytes: 2,
      },
    ],
  });
  const shown = await life.details();
  assert.equal((await life.item()).properties?.protectionState, "InitialReplicationInProgress");
  assert.equal(shown.resyncProgressPercentage, 42);
  assert.equal(shown.protectedDisks?.[0]?.sourceDataInMegaBytes, 5);
  assert.deepEqual((await life.item()).properties?.allowedOperations, [
    "RepairReplication",
    "DisableProtection",
  ]);
});

test("the fabric is told once that a machine is enabled, whatever it reports of it afterwards", async () => {
  await using life = await newLife(postgres);
  await enable(life);
  const { revision } = await life.fabric.desired();
  await life.report({ state: "initial" });
  assert.equal((await life.fabric.desired()).revision, revision);
});

test("a machine without an agent is refused by its job, which says what to do, and can be taken back", async () => {
  await using life = await newLife(postgres);
  const { registration: _, ...bare } = testMachine(life.machineId, ITEM);
  await life.fabric.report({ machines: [bare] });
  await assert.rejects(enable(life), /has not registered/);
  assert.equal((await life.item()).properties?.protectionState, "EnablingFailed");
  assert.equal(await life.wish(), undefined);
  await life.sr.replicationProtectedItems.beginPurgeAndWait(...life.at);
  await assert.rejects(life.item(), { statusCode: 404 });
});

test("disks are left out and taken in while the machine is protected, but never the one that it boots from", async () => {
  await using life = await newLife(postgres);
  const machine = testMachine(life.machineId, ITEM);
  const registration = must(machine.registration, "registration");
  const data = { identity: "serial:b", name: "vdb", sizeBytes: 2 ** 30, isBoot: false };
  const disks = [...registration.disks, data];
  await life.fabric.report({
    machines: [{ ...machine, registration: { ...registration, disks } }],
  });
  await enable(life);
  const change = async (verb: string, ...names: string[]): Promise<number> => {
    const [, , fabric, container, item] = life.at;
    const path = `${VAULT_PATH}/replicationFabrics/${fabric}/replicationProtectionContainers/${container}/replicationProtectedItems/${item}/${verb}?${VERSION}`;
    const providerSpecificDetails = { disks: names.map((diskId) => ({ diskId })) };
    const body = { properties: { providerSpecificDetails } };
    return (await life.vault.request("POST", path, { body })).status;
  };
  const wished = async (): Promise<unknown> => {
    const { excludedDisks, grant } = must(await life.wish(), "wish");
    return [excludedDisks, grant.disks.map(({ identity }) => identity)];
  };
  const both = await wished();
  assert.deepEqual(both, [[], ["serial:a", "serial:b"]]);
  const { revision } = await life.fabric.desired();
  assert.equal(await change("removeDisks", "vdb"), 202);
  assert.deepEqual(await wished(), [["serial:b"], ["serial:a"]]);
  assert.ok((await life.fabric.desired()).revision > revision);
  assert.equal(await change("removeDisks", "vda"), 400);
  assert.equal(await change("removeDisks", "vdx"), 400);
  assert.equal(await change("addDisks", "serial:b"), 202);
  assert.deepEqual(await wished(), both);
});

test("recovery points come from the storage account, newest first, with their kind", async () => {
  await using life = await protectedLife(postgres);
  const points = await recoveryPoints(life);
  assert.deepEqual(
    points.map(({ type }) => type),
    ["CrashConsistent", "AppConsistent", "CrashConsistent"],
  );
});

test("a point that the storage account has counts, though no report has told of it yet", async () => {
  await using life = await newLife(postgres);
  await enable(life);
  await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), [10]);
  const allowed = async (): Promise<boolean> =>
    (await life.item()).properties?.allowedOperations?.includes("TestFailover") === true;
  assert.equal(await allowed(), false);
  await recoveryPoints(life);
  assert.equal(await allowed(), true);
});

test("how old the newest point is is told with the time of which that is known", async () => {
  await using life = await newLife(postgres);
  const seen = systemClock.unixMs() - 3 * 3600_000;
  const machine = { ...testMachine(life.machineId, ITEM), lastSeenUnixMs: seen };
  await life.fabric.report({ machines: [machine] });
  await enable(life);
  await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), [10]);
  const known = async (): Promise<number> =>
    must((await life.details()).lastRpoCalculatedTime, "a time").getTime();
  assert.equal(await known(), seen);
  const before = systemClock.unixMs();
  await recoveryPoints(life);
  assert.ok((await known()) >= before);
  const symptoms = itemSymptoms({
    machine,
    isReplicating: true,
    newestPointUnixMs: 0,
    pointsKnownUnixMs: seen,
    rpoThresholdMinutes: 60,
    nowUnixMs: before,
  });
  const exceeded = symptoms.find(({ code }) => code === "RPO_EXCEEDED");
  assert.match(exceeded?.message ?? "", /there may be newer ones/);
});

test("a test failover runs beside the replication, and counts when it is cleaned up", async () => {
  await using life = await protectedLife(postgres);
  const { sr, site, at } = life;
  assert.equal((await life.item()).properties?.testFailoverStateDescription, "Test recommended");
  const points = await recoveryPoints(life);
  const tested = await sr.replicationProtectedItems.beginTestFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      networkType: "NoNetworkAttachAsInput",
      providerSpecificDetails: {
        instanceType: "InMageAzureV2",
        recoveryPointId: points[1]?.id ?? "",
      },
    },
  });
  assert.equal(tested.properties?.testFailoverState, "WaitingForCompletion");
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [11],
  );
  assert.equal((await life.wish())?.isProtected, true);
  const cleaned = await sr.replicationProtectedItems.beginTestFailoverCleanupAndWait(...at, {
    properties: { comments: "all well" },
  });
  assert.equal(cleaned.properties?.testFailoverState, "None");
  assert.notEqual(cleaned.properties?.lastSuccessfulTestFailoverTime, undefined);
  assert.equal(site.replicas.size, 0);
});

test("a failover fences the source, takes the newest point, lets it be changed, and is committed", async () => {
  await using life = await protectedLife(postgres);
  const { sr, site, at } = life;
  const failed = await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      sourceSiteOperations: "NotRequired",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.equal(failed.properties?.protectionState, "UnplannedFailoverCommitPending");
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [12],
  );
  const wish = must(await life.wish(), "wish");
  assert.deepEqual([wish.isProtected, wish.stoppedReason], [false, "FAILED_OVER"]);
  // The source's process server comes back: its claim is refused.
  const foreign = replicate(
    life.store,
    life.fabric.vaultId,
    {
      ...wish,
      grant: {
        ...wish.grant,
        disks: wish.grant.disks.map((disk) => ({ ...disk, claimGrant: undefined })),
      },
    },
    [20],
  );
  await assert.rejects(foreign, { code: "LOG_FENCED" });
  const points = await recoveryPoints(life);
  await sr.replicationProtectedItems.beginApplyRecoveryPointAndWait(...at, {
    properties: {
      recoveryPointId: points[2]?.id ?? "",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [10],
  );
  const committed = await sr.replicationProtectedItems.beginFailoverCommitAndWait(...at);
  assert.deepEqual(committed.properties?.allowedOperations, ["DisableProtection"]);
  await assert.rejects(
    sr.replicationProtectedItems.beginApplyRecoveryPoint(...at, {
      properties: {
        recoveryPointId: points[0]?.id ?? "",
        providerSpecificDetails: { instanceType: "InMageAzureV2" },
      },
    }),
    { statusCode: 409, code: "OperationNotAllowed" },
  );
});

test("a cancelled failover deletes its machine and lets the source go on, with a comparison", async () => {
  await using life = await protectedLife(postgres);
  const { sr, site, at } = life;
  await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} });
  await sr.replicationProtectedItems.beginFailoverCancelAndWait(...at);
  assert.equal(site.replicas.size, 0);
  const wish = must(await life.wish(), "wish");
  assert.deepEqual([wish.isProtected, wish.resyncRequest], [true, 1]);
  await replicate(life.store, life.fabric.vaultId, wish, [21]);
  assert.equal((await recoveryPoints(life)).length, 4);
});

test("the client of 2016 tests, fails over, changes the point, commits and disables", async () => {
  await using life = await protectedLife(postgres);
  const client = legacyClient(life.vault);
  const items = client.replicationProtectedItems;
  const [, , ...at] = life.at;
  // It gives the status of the operation as its result, so the item is read.
  const shown = async (): Promise<unknown> => {
    const { protectionState, testFailoverState } = (await items.get(...at)).properties;
    return [protectionState, testFailoverState];
  };
  const providerSpecificDetails = { instanceType: "InMageAzureV2" };
  const [, point] = await client.recoveryPoints.listByReplicationProtectedItems(...at);
  const failoverDirection = "PrimaryToRecovery";
  await items.testFailover(...at, {
    properties: {
      failoverDirection,
      networkType: "NoNetworkAttachAsInput",
      providerSpecificDetails: { ...providerSpecificDetails, recoveryPointId: point.id },
    },
  });
  assert.deepEqual(await shown(), ["Protected", "WaitingForCompletion"]);
  await items.testFailoverCleanup(...at, { properties: { comments: "well" } });
  await items.unplannedFailover(...at, {
    properties: { failoverDirection, sourceSiteOperations: "NotRequired", providerSpecificDetails },
  });
  assert.deepEqual(await shown(), ["UnplannedFailoverCommitPending", "None"]);
  await items.applyRecoveryPoint(...at, {
    properties: { recoveryPointId: point.id, providerSpecificDetails },
  });
  assert.deepEqual(
    [...life.site.replicas.values()].map((replica) => replica.point.slot),
    [11],
  );
  await items.failoverCommit(...at);
  assert.deepEqual(await shown(), ["UnplannedFailoverCommitted", "None"]);
  await items.deleteMethod(...at, { properties: { disableProtectionReason: "NotSpecified" } });
  await assert.rejects(life.item(), { statusCode: 404 });
});

test("a failover whose machine does not start says so, and can be tried again", async () => {
  await using life = await protectedLife(postgres);
  const { sr, site, at } = life;
  site.failsNext = "no memory left";
  await assert.rejects(
    sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} }),
    /no memory left/,
  );
  assert.equal((await life.item()).properties?.protectionState, "UnplannedFailoverFailed");
  assert.equal((await life.wish())?.isProtected, false);
  await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} });
  assert.equal(site.replicas.size, 1);
});

test("disabling keeps the data, or deletes all of it and says how much that was", async () => {
  await using life = await protectedLife(postgres);
  const { sr, at, store } = life;
  const names = async (): Promise<number> => {
    const all = await Array.fromAsync(listAll(store, ""));
    return all.filter(({ name }) => name.includes("/d/") || name.includes("/g/")).length;
  };
  assert.ok((await names()) > 0);
  await sr.replicationProtectedItems.beginDeleteAndWait(...at, { properties: {} });
  assert.ok((await names()) > 0);
  await enable(life);
  await sr.replicationProtectedItems.beginDeleteAndWait(...at, {
    properties: {
      replicationProviderInput: { instanceType: "InMage", replicaVmDeletionStatus: "Delete" },
    },
  });
  assert.equal(await names(), 0);
  assert.equal(await life.wish(), undefined);
});

test("what is wrong with items now is the vault's health, and what happened is events", async () => {
  await using life = await protectedLife(postgres);
  const health = async (): Promise<{ issues: { summaryCode: string }[] }> =>
    (await life.vault.request("GET", `${VAULT_PATH}/replicationVaultHealth/default?${VERSION}`))
      .body.properties.protectedItemsHealth;
  const wrong = { code: "CHANGES_LOST", message: "lost", hint: "wait" };
  await life.report({ state: "critical", health: [wrong] });
  const { issues } = await health();
  assert.deepEqual(
    issues.map(({ summaryCode }) => summaryCode),
    ["CHANGES_LOST", "RPO_EXCEEDED"],
  );
  assert.deepEqual((issues[0] as any).affectedResourceCorrelationIds, [life.machineId]);
  await life.report({});
  assert.deepEqual(
    (await health()).issues.map(({ summaryCode }) => summaryCode),
    ["RPO_EXCEEDED"],
  );
  const events = await life.vault.request("GET", `${VAULT_PATH}/replicationEvents?${VERSION}`);
  assert.deepEqual(
    events.body.value.map(({ properties }: any) => properties.eventCode),
    ["FABRIC_REGISTERED"],
  );
});
