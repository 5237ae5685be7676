import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, before, test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { randomUuid } from "@osr/base/uuid";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { type CertificateRole, certificateUri } from "@osr/contracts/certificate-name";

import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import {
  createVault,
  credentialToken,
  register,
  registrationOf,
  testFabric,
  testMachine,
} from "../testing/test-fabric.ts";
import {
  type TestVault,
  VAULT_PATH,
  VERSION,
  request,
  startTestVault,
} from "../testing/test-vault.ts";

let postgres: TestPostgres;
let authority: Identity;
let vault: TestVault;
before(async () => {
  postgres = await startTestPostgres();
  authority = await createAuthority({ commonName: "test authority", days: 10, clock: systemClock });
  vault = await startTestVault(await postgres.newDatabase(), { ports: { authority } });
  await createVault(vault);
});
after(async () => {
  await vault[Symbol.asyncDispose]();
  await postgres[Symbol.asyncDispose]();
});

const api = (path: string): string => `${VAULT_PATH}/${path}?${VERSION}`;
const registration = (body: unknown, identity?: Parameters<typeof request>[0]["identity"]) =>
  request({
    url: `${vault.url}/fabric/v1/registration`,
    ca: vault.authorityPem,
    method: "POST",
    body,
    ...(identity === undefined ? {} : { identity }),
  });

test("a fabric registers, reports, and is shown with what it reported", async () => {
  const fabric = await register(vault, { name: "berlin" });
  const machine = testMachine(randomUuid(systemRandomness));
  const { body } = await fabric.report({ machines: [machine] });
  assert.deepEqual(body, { wantsWhole: false });
  const path = `replicationFabrics/berlin/replicationProtectionContainers/cloud_${fabric.fabricId}`;
  const shown = await vault.request("GET", api("replicationFabrics/BERLIN"));
  assert.equal(shown.body.properties.health, "Normal");
  assert.deepEqual(shown.body.properties.customDetails.runAsAccounts, [
    { accountId: "1", accountName: "root" },
  ]);
  const items = await vault.request("GET", api(`${path}/replicationProtectableItems`));
  assert.deepEqual(
    items.body.value.map((item: any) => [
      item.name,
      item.properties.customDetails.diskDetails[0].diskId,
    ]),
    [[machine.machineId, "serial:a"]],
  );
  const filter = "&$filter=state%20eq%20%27Protected%27";
  const none = await vault.request("GET", api(`${path}/replicationProtectableItems`) + filter);
  assert.deepEqual(none.body.value, []);
  await fabric.report({ machines: [] });
  const gone = await vault.request("GET", api(`${path}/replicationProtectableItems`));
  assert.deepEqual(gone.body.value, []);
});

test("a discovery waits for the configuration server, whose answer ends its job", async () => {
  const fabric = await register(vault, { name: "discovery" });
  await fabric.report({});
  const { revision } = await fabric.desired();
  const waiting = fabric.desired(revision);
  const started = await vault.request(
    "POST",
    api(
      `replicationFabrics/discovery/replicationProtectionContainers/cloud_${fabric.fabricId}/discoverProtectableItem`,
    ),
    { body: { properties: { friendlyName: "pc", ipAddress: "10.0.0.9", osType: "Linux" } } },
  );
  assert.equal(started.status, 202);
  const wish = await waiting;
  const [order] = wish.orders;
  assert.deepEqual(
    [order?.kind, order?.address, order?.operatingSystem],
    ["discover-machine", "10.0.0.9", "linux"],
  );
  const job = (): Promise<any> =>
    vault.request(
      "GET",
      api(`replicationJobs/${started.headers.location?.split("?")[0]?.split("/").at(-1)}`),
    );
  assert.equal((await job()).body.properties.state, "InProgress");
  const orderResults = [{ orderId: order!.id, state: "succeeded" as const }];
  await fabric.report({ orderResults });
  while ((await job()).body.properties.state === "InProgress");
  assert.equal((await job()).body.properties.state, "Succeeded");
  assert.deepEqual((await fabric.desired()).orders, []);
  // The same result again, and that of an order nobody gave, change nothing.
  const again = await fabric.report({
    orderResults: [...orderResults, { orderId: randomUuid(systemRandomness), state: "failed" }],
  });
  assert.equal(again.status, 200);
});

test("machines are moved to a process server that the fabric has, and to no other", async () => {
  const fabric = await register(vault, { name: "moving" });
  const id = randomUuid(systemRandomness);
  const facts = {
    hostName: "ps01",
    version: "1.0",
    address: { host: "10.0.0.2", port: 9443 },
    certificateExpiresUnixMs: systemClock.unixMs() + 1e9,
    cacheFreePermille: 200,
    cpuPermille: 900,
    memoryPermille: 100,
    pendingUploadBytes: 5,
    protectedMachines: 0,
    health: [],
  };
  await fabric.report({
    gateways: [{ id, role: "process-server", lastSeenUnixMs: systemClock.unixMs(), facts }],
  });
  const shown = await vault.request("GET", api("replicationFabrics/moving"));
  const [server] = shown.body.properties.customDetails.processServers;
  // What is short at the moment only is not coloured.
  assert.deepEqual(
    [server.id, server.systemLoadStatus, server.cpuLoadStatus, server.spaceUsageStatus],
    [id, "Green", "Green", "Green"],
  );
  const lasting = ["CPU_WARNING", "CACHE_CRITICAL"].map((code) => ({
    code,
    message: "",
    hint: "",
  }));
  await fabric.report({
    gateways: [
      {
        id,
        role: "process-server",
        lastSeenUnixMs: systemClock.unixMs(),
        facts: { ...facts, health: lasting },
      },
    ],
  });
  const later = await vault.request("GET", api("replicationFabrics/moving"));
  const [short] = later.body.properties.customDetails.processServers;
  assert.deepEqual(
    [short.systemLoadStatus, short.cpuLoadStatus, short.memoryUsageStatus, short.spaceUsageStatus],
    ["Yellow", "Yellow", "Green", "Red"],
  );
  assert.deepEqual(
    [short.health, short.healthErrors.map((error: any) => error.errorLevel)],
    ["Critical", ["Warning", "Error"]],
  );
  const move = async (target: string, vmsToMigrate?: string[]): Promise<number> => {
    const properties = {
      sourceProcessServerId: "x",
      targetProcessServerId: target,
      updateType: vmsToMigrate === undefined ? "SystemLevel" : "ServerLevel",
      vmsToMigrate,
    };
    const path = api("replicationFabrics/moving/reassociateGateway");
    return (await vault.request("POST", path, { body: { properties } })).status;
  };
  assert.deepEqual([await move(id.toUpperCase()), await move(fabric.fabricId)], [202, 400]);
  assert.deepEqual([await move(id, []), await move(id, ["no machine"])], [400, 400]);
});

test("a configuration server whose clock is wrong is told of, and what it has heard of is as old as it is", async () => {
  const fabric = await register(vault, { name: "skewed" });
  const machine = testMachine(randomUuid(systemRandomness));
  for (const skewMs of [-5 * 3600_000, 5 * 3600_000]) {
    const unixMs = systemClock.unixMs() + skewMs;
    const lastSeenUnixMs = unixMs - 20 * 60_000;
    const { status } = await fabric.report({
      unixMs,
      machines: [{ ...machine, lastSeenUnixMs }],
    });
    assert.equal(status, 200);
    const shown = await vault.request("GET", api("replicationFabrics/skewed"));
    assert.deepEqual(
      shown.body.properties.healthErrorDetails.map((error: any) => error.errorCode),
      ["CLOCK_SKEWED"],
    );
    const { last_seen_at: seen } = await vault.open.database
      .selectFrom("fabric_machine")
      .select("last_seen_at")
      .where("machine_id", "=", machine.machineId)
      .executeTakeFirstOrThrow();
    const minutes = (systemClock.unixMs() - (seen ?? 0)) / 60_000;
    assert.ok(minutes >= 20 && minutes < 25, String(minutes));
  }
  await fabric.report({ machines: [machine] });
  const well = await vault.request("GET", api("replicationFabrics/skewed"));
  assert.deepEqual(well.body.properties.healthErrorDetails, []);
});

test("what anybody may read tells that the vault works, and describes its API", async () => {
  const get = (path: string) => vault.request("GET", path, { token: undefined });
  assert.deepEqual((await get("/healthz")).body, { status: "ok" });
  assert.deepEqual((await get("/readyz")).body, { status: "ready" });
  const metrics = await get("/metrics");
  assert.match(
    metrics.body,
    /osr_vault_requests_total\{route="V\/replicationFabrics\/\{fabricName\}",method="GET",status="200"\} \d/,
  );
  assert.match((await get("/docs")).body, /replicationProtectedItems/);
  assert.equal((await get("/metricsx")).status, 401);
});

test("credentials are good for one registration of a site, and only it takes its fabric over", async () => {
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const token = await credentialToken(vault);
  const first = await registration(registrationOf(token, csrPem, { name: "once" }));
  assert.equal(first.status, 200);
  const replayed = await registration(registrationOf(token, csrPem, { name: "once" }));
  assert.deepEqual([replayed.status, replayed.body.error.code], [401, "REGISTRATION_REFUSED"]);
  const other = registrationOf(await credentialToken(vault), csrPem, {
    name: "once",
    takeoverKey: "f".repeat(64),
  });
  const foreign = await registration(other);
  assert.deepEqual([foreign.status, foreign.body.error.code], [409, "FABRIC_NAME_TAKEN"]);
  const old = testFabric(vault, first.body, {
    certificatePem: first.body.certificatePem,
    privateKeyPem,
  });
  assert.equal((await old.report({})).status, 200);
  const successor = await register(vault, { name: "once" });
  assert.equal(successor.fabricId, first.body.fabricId);
  assert.equal((await old.report({})).status, 401);
  assert.deepEqual((await successor.report({ isWhole: false })).body, { wantsWhole: true });
});

test("a replaced certificate is good until its successor was used", async () => {
  const fabric = await register(vault, { name: "renewing" });
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const { body } = await fabric.send("POST", "/fabric/v1/renewal", { csrPem });
  const renewed = testFabric(vault, fabric, { certificatePem: body.certificatePem, privateKeyPem });
  assert.equal((await fabric.report({})).status, 200);
  assert.equal((await renewed.report({})).status, 200);
  assert.equal((await fabric.report({})).status, 401);
});

test("routes of fabrics need a certificate of the vault, and each refusal is named", async () => {
  const fabric = await register(vault, { name: "certificates" });
  const refusal = async (identity?: Identity): Promise<unknown[]> => {
    const { status, body } = await request({
      url: `${vault.url}/fabric/v1/desired`,
      ca: vault.authorityPem,
      method: "GET",
      ...(identity === undefined ? {} : { identity }),
    });
    return [status, body.error?.code];
  };
  const issue = (role: CertificateRole, issuer = authority, daysAgo = 0): Promise<Identity> =>
    issueCertificate(issuer, {
      commonName: role,
      uri: certificateUri({ role, id: fabric.fabricId }),
      days: 1,
      clock: { ...systemClock, unixMs: () => systemClock.unixMs() - daysAgo * 24 * 3600_000 },
      usage: "client",
    });
  const other = await createAuthority({ commonName: "another", days: 1, clock: systemClock });
  const role = "configuration-server";
  assert.deepEqual(await refusal(), [401, "CERTIFICATE_REQUIRED"]);
  assert.deepEqual(await refusal(await issue("operator")), [401, "CERTIFICATE_REQUIRED"]);
  assert.deepEqual(await refusal(await issue(role, other)), [401, "CERTIFICATE_UNTRUSTED"]);
  const old = await issue(role, authority, 2);
  assert.deepEqual(await refusal(old), [401, "CERTIFICATE_EXPIRED"]);
  assert.deepEqual(await refusal(await issue(role)), [401, "CERTIFICATE_REPLACED"]);
  assert.deepEqual(await refusal(fabric.identity), [200, undefined]);
  const wrong = await vault.request("POST", "/fabric/v1/registration", { body: { token: 1 } });
  assert.deepEqual([wrong.status, wrong.body.error.code], [400, "INPUT_INVALID"]);
});

test("a configuration server whose fabric was taken over learns nothing more of it, also where it waits", async () => {
  const first = await register(vault, { name: "taken-over" });
  const { revision } = await first.desired();
  const waiting = first.send("GET", `/fabric/v1/desired?after=${revision}`);
  const second = await register(vault, { name: "taken-over" });
  const path = `replicationFabrics/taken-over/checkConsistency`;
  assert.equal((await vault.request("POST", api(path))).status, 202);
  assert.equal((await waiting).status, 204);
  assert.equal((await second.desired(revision)).orders.length, 1);
  const { status, body } = await first.send("GET", `/fabric/v1/desired?after=${revision}`);
  assert.deepEqual([status, body.error.code], [401, "CERTIFICATE_REPLACED"]);
});

test("the key of an uploaded certificate registers once, as Azure's credentials file has it", async () => {
  const uploaded = await createAuthority({ commonName: "management", days: 1, clock: systemClock });
  const der = new X509Certificate(uploaded.certificatePem).raw;
  const put = await vault.request("PUT", api("certificates/management"), {
    body: { properties: { authType: "AAD", certificate: der.toString("base64") } },
  });
  assert.equal(put.status, 200);
  assert.equal(typeof put.body.properties.resourceId, "number");
  const { csrPem } = createCertificateRequest();
  const body = registrationOf("", csrPem, { name: "by-certificate" });
  assert.equal((await registration(body)).status, 401);
  assert.equal((await registration(body, uploaded)).status, 200);
  assert.equal((await registration(body, uploaded)).status, 401);
});

test("a fabric that was removed is told so, also while it waits", async () => {
  const fabric = await register(vault, { name: "removed" });
  const { revision } = await fabric.desired();
  const waiting = fabric.send("GET", `/fabric/v1/desired?after=${revision}`);
  const removed = await vault.request("POST", api("replicationFabrics/removed/remove"));
  assert.equal(removed.status, 202);
  assert.equal((await waiting).status, 410);
  assert.equal((await fabric.report({})).status, 410);
});
