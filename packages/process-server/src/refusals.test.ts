import assert from "node:assert/strict";
import { test } from "node:test";

import { certificateFacts } from "@osr/certificates/certificate-facts";
import { createRevocationList } from "@osr/certificates/revocation-list";
import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { HOUR_MS } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { certificateUri } from "@osr/contracts/certificate-name";
import { HttpsClient } from "@osr/https/https-client";
import { diskIdOf } from "@osr/repository/disk-id";

import { type Encoder, inProcessEncoder } from "./encoder.ts";
import { agentOf } from "./site-checks.contract.ts";
import { type Change, TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  eventually,
  hastyScheduler,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "refused");
const DISK = { identity: "serial:a", sizeBytes: 400 * 4096 };
const data = (block: number): Change => ({
  type: "data",
  block,
  content: Buffer.alloc(4096, `block ${block} `),
});

test("only certificates that name a mobility service are let in", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  const { port } = running;
  const authorityPem = testbed.authority.certificatePem;
  const operator = await issueCertificate(testbed.authority, {
    commonName: "operator",
    uri: certificateUri({ role: "operator", id: machineId }),
    days: 1,
    clock: systemClock,
    usage: "client",
  });
  using asOperator = new TestAgent({ machineId, port, identity: operator, authorityPem });
  await assert.rejects(asOperator.openSession([DISK]), { code: "CERTIFICATE_REQUIRED" });
  using stranger = new HttpsClient({
    baseUrl: `https://127.0.0.1:${port}`,
    authorityPem,
    socketsMax: 1,
    timeoutMs: 5000,
    scheduler: systemScheduler,
  });
  await assert.rejects(stranger.request({ method: "POST", path: "/v1/session" }), {
    code: "CERTIFICATE_REQUIRED",
  });
});

test("a certificate that is expired, of another authority or revoked is refused by its name, and nobody else", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  const { port, server } = running;
  using good = await agentOf(testbed, port, uuidOfName("machine", "good"));
  await good.openSession([DISK]);

  const authorityPem = testbed.authority.certificatePem;
  const agentWith = (identity: Identity): TestAgent =>
    new TestAgent({ machineId, port, identity, authorityPem });
  const issue = (authority: Identity, daysAgo: number): Promise<Identity> =>
    issueCertificate(authority, {
      commonName: "agent",
      uri: certificateUri({ role: "mobility-service", id: machineId }),
      days: 1,
      clock: { ...systemClock, unixMs: () => systemClock.unixMs() - daysAgo * 24 * HOUR_MS },
      usage: "client",
    });
  const other = await createAuthority({ commonName: "test", days: 1, clock: systemClock });
  using expired = agentWith(await issue(testbed.authority, 2));
  await assert.rejects(expired.openSession([DISK]), { code: "CERTIFICATE_EXPIRED" });
  using foreign = agentWith(await issue(other, 0));
  await assert.rejects(foreign.openSession([DISK]), { code: "CERTIFICATE_UNTRUSTED" });

  const identity = await issue(testbed.authority, 0);
  using before = agentWith(identity);
  await before.openSession([DISK]);
  server.withdraw(machineId);
  await assert.rejects(before.heartbeat(), { code: "SESSION_REPLACED" });
  const { serial } = certificateFacts(identity.certificatePem);
  const revoked = [{ serial, revokedUnixMs: systemClock.unixMs() }];
  server.replaceCertificate({
    ...testbed.serverIdentity,
    clientAuthorityPem: authorityPem,
    revokedPem: await createRevocationList(testbed.authority, revoked, systemClock),
  });
  // What it holds open does not help it either: it is cut.
  await assert.rejects(before.heartbeat(), { code: "PEER_UNAVAILABLE" });
  await assert.rejects(before.heartbeat(), { code: "CERTIFICATE_REVOKED" });
  using after = agentWith(identity);
  await assert.rejects(after.openSession([DISK]), { code: "CERTIFICATE_REVOKED" });

  const { diskId, nextInterval } = good.granted(DISK.identity);
  await good.send(
    diskId,
    encodeChanges([data(1)], { session: 1, interval: nextInterval, recordNo: 0 }),
  );
});

test("a machine writes only its own disks, and only within them", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  using other = await agentOf(testbed, running.port, uuidOfName("machine", "other"));
  await agent.openSession([DISK]);
  await other.openSession([DISK]);
  const { diskId, nextInterval } = agent.granted(DISK.identity);
  const place = { session: 1, interval: nextInterval, recordNo: 0 };
  await assert.rejects(other.send(diskId, encodeChanges([data(1)], place)), {
    code: "DISK_FOREIGN",
    details: { status: 403 },
  });
  await assert.rejects(agent.send(diskId, encodeChanges([data(400)], place)), {
    code: "HRL_INVALID",
  });
  const foreignTag = other.tag(1, [DISK.identity]);
  const marked: Change[] = [{ type: "mark", tag: foreignTag }, { type: "end" }];
  await assert.rejects(agent.send(diskId, encodeChanges(marked, place)), { code: "HRL_INVALID" });
  await agent.send(diskId, encodeChanges([data(1)], place));
});

test("requests that make no sense are refused by name", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  const ask = (method: string, path: string, body = Buffer.from("{}")) =>
    agent.client.request({ method, path, body });
  await assert.rejects(ask("GET", "/v1/session"), { code: "NOT_FOUND" });
  await assert.rejects(ask("POST", "/v2/session"), { code: "NOT_FOUND" });
  await assert.rejects(ask("POST", "/v1/session"), { code: "INPUT_INVALID" });
  await assert.rejects(ask("POST", "/v1/session", Buffer.from("{")), { code: "INPUT_INVALID" });
  await assert.rejects(agent.openSession([DISK, DISK]), { code: "INPUT_INVALID" });
  await assert.rejects(agent.heartbeat(7), { code: "SESSION_REPLACED" });
  const diskId = diskIdOf(machineId, DISK.identity);
  await assert.rejects(agent.send(diskId, Buffer.alloc(64)), { code: "SESSION_REPLACED" });
  await agent.openSession([DISK]);
  await assert.rejects(agent.send(diskId, Buffer.alloc(64)), { code: "HRL_INVALID" });
  await assert.rejects(agent.send(diskId, Buffer.alloc(5 * 2 ** 20 + 1)), {
    code: "BODY_TOO_LARGE",
  });
});

test("of two sessions the newer one wins; what comes for the older one is refused", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  using old = await agentOf(testbed, running.port, machineId);
  using young = await agentOf(testbed, running.port, machineId);
  await old.openSession([DISK], 5);
  const { diskId, nextInterval } = old.granted(DISK.identity);
  const batch = (session: number, interval: number, recordNo: number) =>
    encodeChanges([data(recordNo)], { session, interval, recordNo });
  await old.send(diskId, batch(5, nextInterval, 0));
  // This one waits for record 1, which never comes in this session.
  const waiting = old.send(diskId, batch(5, nextInterval, 2));
  const refused = assert.rejects(waiting, { code: "SESSION_REPLACED" });
  await assert.rejects(young.openSession([DISK], 5), {
    code: "EPOCH_STALE",
    details: { newestEpoch: 5, status: 409 },
  });
  await young.openSession([DISK], 9);
  await refused;
  assert.ok(young.granted(DISK.identity).nextInterval > nextInterval);
  await assert.rejects(old.send(diskId, batch(5, nextInterval, 1)), { code: "SESSION_REPLACED" });
  await assert.rejects(old.heartbeat(), { code: "SESSION_REPLACED" });
  const interval = young.granted(DISK.identity).nextInterval;
  const reply = await young.send(diskId, batch(9, interval, 0));
  assert.deepEqual([reply.spooledInterval, reply.spooledRecordNo], [interval, 0]);
});

test("a new session waits for batches of the old one that are on their way to the spool", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const gate = Promise.withResolvers<void>();
  const encoder: Encoder = {
    encode: async (job) => {
      await gate.promise;
      return inProcessEncoder.encode(job);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  await using running = await runServer(testbed, { store, encoder });
  using old = await agentOf(testbed, running.port, machineId);
  using young = await agentOf(testbed, running.port, machineId);
  await old.openSession([DISK], 1);
  const { diskId, nextInterval: interval } = old.granted(DISK.identity);
  const events: string[] = [];
  const batch = encodeChanges([data(1)], { session: 1, interval, recordNo: 0 });
  const sent = old.send(diskId, batch).then(() => events.push("spooled"));
  await eventually("the batch is taken in", () => {
    const [machine] = running.server.status().machines;
    return machine?.disks[0]?.receivedBytes === batch.length;
  });
  const opened = young.openSession([DISK], 2).then(() => events.push("granted"));
  await assert.rejects(
    eventually("the old session is replaced", () =>
      old.heartbeat().then(
        () => false,
        (error: unknown) => {
          throw error;
        },
      ),
    ),
    { code: "SESSION_REPLACED" },
  );
  gate.resolve();
  await Promise.all([sent, opened]);
  assert.deepEqual(events, ["spooled", "granted"]);
  assert.equal(young.granted(DISK.identity).nextInterval, interval + 1);
});

test("epochs of sessions that wrote are known after a restart", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK], 5);
    const { diskId, nextInterval } = agent.granted(DISK.identity);
    await agent.send(
      diskId,
      encodeChanges([data(0)], { session: 5, interval: nextInterval, recordNo: 0 }),
    );
  }
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await assert.rejects(agent.openSession([DISK], 5), {
    code: "EPOCH_STALE",
    details: { newestEpoch: 5, status: 409 },
  });
  const { disks } = await agent.openSession([DISK], 6);
  assert.deepEqual(disks[0]?.nextInterval, 2);
});

test("a batch whose predecessors never come is refused with the record that is missing", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
  const batch = (recordNo: number) =>
    agent.send(diskId, encodeChanges([data(recordNo)], { session: 1, interval, recordNo }));
  await batch(0);
  await assert.rejects(batch(3), {
    code: "RECORDS_OUT_OF_ORDER",
    details: { interval, recordNo: 1, status: 409 },
  });
  await assert.rejects(
    agent.send(
      diskId,
      encodeChanges([data(0)], { session: 1, interval: interval - 1, recordNo: 0 }),
    ),
    { code: "RECORDS_OUT_OF_ORDER" },
  );
  await batch(1);
});

test("two process servers cannot use one cache folder", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using _ = await runServer(testbed, { store });
  await assert.rejects(runServer(testbed, { store }), { code: "SPOOL_IN_USE" });
});
