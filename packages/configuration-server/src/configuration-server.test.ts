import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { HOUR_MS } from "@osr/base/units";
import { randomUuid, uuidOfName } from "@osr/base/uuid";
import type { FabricStatus } from "@osr/contracts/fabric-protocol";
import { ENROLMENT_ROUTES } from "@osr/contracts/enrolment";
import { SITE_ROUTES } from "@osr/contracts/site-protocol";

import { proofOf, verifierOf } from "@osr/control-link/enrolment-client";

import { newPassphrase, setPassphrase } from "./enrolment-desk.ts";
import { siteBackup } from "./site-backup.ts";
import { openSite } from "./site.ts";
import { FakeVault } from "./testing/fake-vault.ts";
import { DATA_KEY, TestRole, TestSite, desiredItem, registration } from "./testing/test-site.ts";

const coded =
  (code: string) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof OsrError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };

/** The next report of which `wanted` is true. */
async function reported(
  vault: FakeVault,
  wanted: (status: FabricStatus) => boolean,
): Promise<FabricStatus> {
  const limit = AbortSignal.timeout(20_000);
  for (let next = 0; ; next++) {
    while (next >= vault.statuses.length) {
      await vault.changed.next(limit);
      limit.throwIfAborted();
    }
    const status = vault.statuses[next];
    if (status !== undefined && wanted(status)) return status;
  }
}

test("keys come from the vault to the process server that a machine is given", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite().start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  using gateway = await site.enrol("process-server");
  const before = (await agent.settings())!;
  assert.equal(before.isProtected, false);
  await agent.report();
  await gateway.reportGateway();
  const seen = await reported(vault, ({ machines }) =>
    machines.some(({ machineId, facts }) => machineId === agent.id && facts !== undefined),
  );
  assert.equal(seen.machines[0]?.registration?.disks[0]?.identity, "serial:a");
  const waiting = agent.settings(before.revision);
  vault.wish({ items: [desiredItem(agent.id)] });
  const settings = (await waiting)!;
  assert.equal(settings.isProtected, true);
  assert.deepEqual(settings.processServer, { id: gateway.id, host: "127.0.0.1", port: 9443 });
  const assignment = (await gateway.assignment())!;
  assert.equal(assignment.machines[0]?.disks[0]?.dataKey, DATA_KEY);
  const { appliedRevision } = await reported(vault, (status) => status.appliedRevision === 2);
  assert.equal(appliedRevision, 2);
  vault.wish({
    items: [desiredItem(agent.id, { isProtected: false, stoppedReason: "FAILED_OVER" })],
  });
  const stopped = (await agent.settings(settings.revision))!;
  assert.deepEqual([stopped.isProtected, stopped.stoppedReason], [false, "FAILED_OVER"]);
  assert.deepEqual((await gateway.assignment(assignment.revision))!.machines, []);
});

test("a restart without the vault changes nothing: same settings, same keys, none of them readable on disk", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite({ waitMs: 200 }).start();
  await site.register(vault);
  using agent = await site.enrol("mobility-service");
  using gateway = await site.enrol("process-server");
  await agent.report();
  await gateway.reportGateway();
  vault.wish({ items: [desiredItem(agent.id)] });
  await reported(vault, ({ appliedRevision }) => appliedRevision === 2);
  const [settings, assignment] = [(await agent.settings())!, (await gateway.assignment())!];
  await vault.stop();
  await site.stop();
  for (const name of readdirSync(join(site.folder, "state"))) {
    const bytes = readFileSync(join(site.folder, "state", name));
    for (const secret of [DATA_KEY, "ab".repeat(32)]) assert.ok(!bytes.includes(secret), name);
  }
  await site.start();
  assert.deepEqual(await agent.settings(), settings);
  assert.deepEqual(await gateway.assignment(), assignment);
  assert.equal(await agent.settings(settings.revision), undefined, "nothing new within the time");
  await agent.report({ pointsMade: 7 });
  vault.statuses.length = 0;
  await vault.start();
  const status = await reported(vault, ({ machines }) => machines.length > 0);
  assert.equal(status.machines[0]?.facts?.pointsMade, 7, "what was reported meanwhile arrives");
});

test("another configuration server with the site's secret takes everybody over, without news for anybody", async () => {
  await using vault = await FakeVault.start();
  const lost = await new TestSite({ waitMs: 200 }).start();
  await using _ = lost;
  const fabricId = await lost.register(vault);
  using agent = await lost.enrol("mobility-service");
  using gateway = await lost.enrol("process-server");
  await agent.report();
  await gateway.reportGateway();
  vault.wish({ items: [desiredItem(agent.id)] });
  await reported(vault, ({ appliedRevision }) => appliedRevision === 2);
  const [settings, assignment] = [(await agent.settings())!, (await gateway.assignment())!];
  await lost.stop();

  await using next = new TestSite({ waitMs: 200 }, lost.secret);
  next.port = lost.port;
  await next.start();
  assert.equal(await agent.settings(settings.revision), undefined, "what is not known is not told");
  await agent.report({ processServerId: gateway.id, state: "protected" });
  await gateway.reportGateway();
  assert.equal(await next.register(vault, fabricId), fabricId);
  assert.deepEqual(await agent.settings(), settings, "the same process server, the same revision");
  assert.deepEqual(await gateway.assignment(), assignment);
  await using stranger = await new TestSite().start();
  await assert.rejects(stranger.register(vault, fabricId), coded("FAKE_REFUSED"));
});

test("whoever has no valid certificate of the right role is refused", async () => {
  await using site = await new TestSite().start();
  await using other = await new TestSite().start();
  using agent = await site.enrol("mobility-service");
  using gateway = await site.enrol("process-server");
  using stranger = await other.enrol("mobility-service");
  await assert.rejects(gateway.settings(), coded("ROLE_FORBIDDEN"));
  await assert.rejects(agent.assignment(), coded("ROLE_FORBIDDEN"));
  await assert.rejects(agent.reportGateway(), coded("ROLE_FORBIDDEN"));
  // Of another site: it does not even trust this server.
  const { authorityPem } = agent.identity;
  const { configurationServer } = agent.identity;
  const intruder = Object.assign({}, stranger.identity, { authorityPem, configurationServer });
  using forged = new TestRole(intruder);
  await assert.rejects(forged.settings(), coded("CERTIFICATE_UNTRUSTED"));
  await agent.report();
  site.site.state.revokeMember(agent.id, systemClock.unixMs());
  await site.stop();
  await site.start();
  await assert.rejects(agent.report(), coded("CERTIFICATE_REVOKED"));
  await assert.rejects(
    agent.post(SITE_ROUTES.machine, { ...registration("x"), agentVersion: "y".repeat(2 ** 20) }),
    coded("CERTIFICATE_REVOKED"),
  );
  await assert.rejects(
    gateway.post(SITE_ROUTES.gatewayStatus, { hostName: "y".repeat(2 ** 21) }),
    coded("BODY_TOO_LARGE"),
  );
  await assert.rejects(gateway.post(SITE_ROUTES.gatewayStatus, {}), coded("INPUT_INVALID"));
  await assert.rejects(gateway.post("/v1/other", {}), coded("NOT_FOUND"));
});

test("tokens enrol one role, once, in time; passphrases many machines; wrong ones are throttled", async () => {
  await using site = await new TestSite().start();
  const token = site.token("process-server");
  using first = await site.enrol("process-server", { secret: token });
  assert.ok(first.identity.certificatePem.includes("BEGIN CERTIFICATE"));
  await assert.rejects(site.enrol("process-server", { secret: token }), coded("TOKEN_USED"));
  const old = site.token("mobility-service", undefined, -1);
  await assert.rejects(site.enrol("mobility-service", { secret: old }), coded("TOKEN_EXPIRED"));
  const bound = uuidOfName("machine");
  using again = await site.enrol("mobility-service", {
    secret: site.token("mobility-service", bound),
    id: bound,
  });
  assert.equal(again.id, bound);
  const secret = newPassphrase(systemRandomness);
  setPassphrase(site.site.state, secret);
  const passphrase = { kind: "passphrase", secret } as const;
  using many = await site.enrol("mobility-service", { secret: passphrase });
  using more = await site.enrol("mobility-service", { secret: passphrase });
  assert.notEqual(many.id, more.id);
  await assert.rejects(
    site.enrol("mobility-service", {
      secret: { kind: "passphrase", secret: "guess" },
      fingerprint: "0".repeat(64),
    }),
    coded("AUTHORITY_UNKNOWN"),
  );
  const refused = [
    () => site.enrol("process-server", { secret: passphrase }),
    () => site.enrol("mobility-service", { secret: passphrase, id: bound }),
    () => site.enrol("mobility-service", { secret: site.token("process-server") }),
    () =>
      site.enrol("mobility-service", {
        secret: { kind: "token", tokenId: randomUuid(systemRandomness), secret: "x" },
      }),
  ];
  for (const attempt of refused) await assert.rejects(attempt(), coded("ENROLMENT_REFUSED"));
  const guess = { kind: "passphrase", secret: "guess" } as const;
  for (let n = refused.length; n < 10; n++)
    await assert.rejects(
      site.enrol("mobility-service", { secret: guess }),
      coded("ENROLMENT_REFUSED"),
    );
  // From here on, whoever is right has to wait, too.
  using client = first.client;
  const csrPem = "csr";
  const body = { role: "mobility-service", proofOf: "passphrase", csrPem, hostName: "h" };
  const proof = proofOf(verifierOf(secret), csrPem);
  await assert.rejects(
    client.request({
      method: "POST",
      path: ENROLMENT_ROUTES.enrol,
      body: Buffer.from(JSON.stringify({ ...body, proof, biosUuid: "" })),
    }),
    (error) => coded("ENROLMENT_THROTTLED")(error) && (error as OsrError).retryable,
  );
});

test("a passphrase is good until another one takes its place, and is not written anywhere", async () => {
  await using site = await new TestSite().start();
  const enrol = (passphrase: string): Promise<TestRole> =>
    site.enrol("mobility-service", { secret: { kind: "passphrase", secret: passphrase } });
  const [first, second] = [newPassphrase(systemRandomness), newPassphrase(systemRandomness)];
  await assert.rejects(enrol(first), coded("ENROLMENT_REFUSED"));
  // By another process: the command of an administrator.
  using beside = await openSite(
    { secret: site.secret, stateFolder: join(site.folder, "state") },
    { clock: systemClock, randomness: systemRandomness },
  );
  setPassphrase(beside.state, first);
  using early = await enrol(first);
  setPassphrase(beside.state, second);
  await assert.rejects(enrol(first), coded("ENROLMENT_REFUSED"));
  using late = await enrol(second);
  assert.notEqual(early.id, late.id);
  const backup = JSON.stringify(siteBackup(beside.state, site.secret));
  assert.ok(!backup.includes(first) && !backup.includes(second));
});

test("a discovered machine and its agent are one machine", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite().start();
  await site.register(vault);
  const order = { id: uuidOfName("order"), kind: "discover-machine" } as const;
  const found = {
    address: "192.0.2.7",
    friendlyName: "database",
    operatingSystem: "linux",
  } as const;
  vault.wish({ orders: [{ ...order, ...found }] });
  const { machines } = await reported(vault, ({ orderResults }) =>
    orderResults.some(({ orderId, state }) => orderId === order.id && state === "succeeded"),
  );
  const [machine] = machines.filter(({ address }) => address === found.address);
  assert.equal(machine?.friendlyName, "database");
  assert.equal(machine.registration, undefined);
  // It enrols from another address, and only its registration tells who it is.
  using agent = await site.enrol("mobility-service");
  await agent.report();
  const after = await reported(vault, (status) =>
    status.machines.some(({ registration: known }) => known !== undefined),
  );
  const [enrolled] = after.machines.filter(({ machineId }) => machineId === agent.id);
  assert.equal(enrolled?.friendlyName, "database");
  assert.ok(
    vault.statuses.some((status) =>
      status.machines.some(
        ({ machineId, isGone }) => machineId === machine.machineId && isGone === true,
      ),
    ),
  );
  vault.wish({ orders: [] });
  await reported(
    vault,
    ({ orderResults, appliedRevision }) => appliedRevision === 3 && orderResults.length === 0,
  );
});

test("certificates with the vault and the roles live for 30 days", async () => {
  await using vault = await FakeVault.start();
  await using site = await new TestSite().start();
  await site.register(vault);
  const status = await reported(vault, () => true);
  const days = (status.certificateExpiresUnixMs - systemClock.unixMs()) / (24 * HOUR_MS);
  assert.ok(days > 29 && days <= 30, String(days));
});
