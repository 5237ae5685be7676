import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { uuidOfName } from "@osr/base/uuid";
import type { BatchReply, SessionReply } from "@osr/contracts/agent-protocol";
import { HTTPS_ERRORS } from "@osr/https/https-errors";

import type { WrittenBatch } from "./batch-writer.ts";
import { BatchesUnderWay } from "./batches-under-way.ts";
import { ConfiguredProcessServers, UNREACHABLE_MS_MAX } from "./process-server-assignment.ts";
import type { ProcessServerClient } from "./process-server-client.ts";
import { ReplicationSession, type SessionPorts } from "./replication-session.ts";
import { type OpenerPorts, SessionOpener } from "./session-opener.ts";
import { SeededRandom } from "./testing/seeded-random.ts";
import { VirtualTime } from "./testing/virtual-time.ts";

const DISK = uuidOfName("disk");
const GRANTED: SessionReply = { groupId: uuidOfName("group"), newestSlot: -1, disks: [] };
const REPLY: BatchReply = {
  diskId: DISK,
  spooledInterval: 1,
  spooledRecordNo: 0,
  vaultedInterval: 0,
  delayMs: 0,
};
const IDENTITY = {
  agentVersion: "0",
  machine: {
    hostName: "h",
    biosUuid: "",
    operatingSystem: "",
    kernel: "",
    firmware: "bios",
    cpuCount: 1,
    memoryBytes: 0,
  },
} as const;

function refusal(code: string, details: object = {}, retryable = false): OsrError {
  return new OsrError({ code, retryable, hint: "" }, code, { details });
}

const unavailable = (): OsrError => refusal("PEER_UNAVAILABLE", {}, true);

/** A client that answers what the test says, one after the other. */
function scripted(...answers: readonly unknown[]): {
  client: ProcessServerClient;
  calls: unknown[];
} {
  const calls: unknown[] = [];
  const queue = [...answers];
  const next = (call: unknown): Promise<never> => {
    calls.push(call);
    const answer = queue.shift();
    return answer instanceof Error ? Promise.reject(answer) : (Promise.resolve(answer) as never);
  };
  const client: ProcessServerClient = {
    openSession: (request) => next(request),
    sendBatch: (_disk, body) => next(body),
    heartbeat: (request) => next(request),
    openComparison: (_disk, request) => next(request),
    granuleHashes: (_disk, at) => next(at),
    blockHashes: (_disk, at) => next(at),
  };
  return { client, calls };
}

function batchOf(firstRecordNo: number, interval = 1): WrittenBatch {
  return {
    body: Buffer.from([firstRecordNo]),
    interval,
    firstRecordNo,
    lastRecordNo: firstRecordNo,
  };
}

function portsOf(
  client: ProcessServerClient,
): SessionPorts & OpenerPorts & { readonly time: VirtualTime } {
  const time = new VirtualTime();
  const processServer = { address: "here", client };
  return {
    processServer,
    processServers: new ConfiguredProcessServers([processServer], time),
    clock: time,
    scheduler: time,
    randomness: new SeededRandom(1),
    log: silentLog,
    time,
  };
}

/** Lets virtual time pass until the test is over. */
function passing(t: TestContext, time: VirtualTime): void {
  const timer = setInterval(() => time.step(), 0);
  t.after(() => clearInterval(timer));
}

function sessionOf(
  t: TestContext,
  client: ProcessServerClient,
): {
  session: ReplicationSession;
  time: VirtualTime;
} {
  const ports = portsOf(client);
  passing(t, ports.time);
  const never = new AbortController().signal;
  return { session: new ReplicationSession(ports, 5, GRANTED, never), time: ports.time };
}

test("a batch is sent again, the same bytes, until the process server is back", async (t) => {
  const { client, calls } = scripted(unavailable(), unavailable(), unavailable(), REPLY);
  const { session } = sessionOf(t, client);
  const batch = batchOf(0);
  assert.deepEqual(await session.send(DISK, batch), { reply: REPLY, attempts: 4, sends: 4 });
  assert.deepEqual(calls, [batch.body, batch.body, batch.body, batch.body]);
  assert.equal(session.signal.aborted, false);
});

test("back-pressure holds all batches back: delayMs, and Retry-After of a full cache", async (t) => {
  const full = refusal("CACHE_FULL", { retryAfterMs: 9000 }, true);
  const { client } = scripted({ ...REPLY, delayMs: 4000 }, REPLY, full, REPLY);
  const { session, time } = sessionOf(t, client);
  await session.send(DISK, batchOf(0));
  await session.send(uuidOfName("another"), batchOf(0));
  assert.ok(time.monotonicMs() >= 4000);
  const sent = session.send(DISK, batchOf(1));
  while (session.busy === undefined) await new Promise((resolve) => void setImmediate(resolve));
  assert.equal(session.busy.code, "CACHE_FULL");
  await sent;
  assert.ok(time.monotonicMs() >= 13_000);
  assert.deepEqual([session.unreachable, session.busy], [undefined, undefined]);
});

test("back-pressure that heartbeats repeat lets a batch through each time it is over", async (t) => {
  const delayMs = 1500;
  const { client } = scripted();
  const pressing: ProcessServerClient = {
    ...client,
    heartbeat: () => Promise.resolve({ disks: [], delayMs }),
    sendBatch: () => Promise.resolve({ ...REPLY, delayMs }),
  };
  const { session, time } = sessionOf(t, pressing);
  const beating = session.heartbeats(
    () => ({ pointsMissed: 0, health: [] }),
    () => undefined,
  );
  for (let recordNo = 0; recordNo < 5; recordNo++) await session.send(DISK, batchOf(recordNo));
  assert.ok(time.monotonicMs() >= 4 * delayMs && time.monotonicMs() <= 5 * delayMs + 1000);
  session.lose("the test is over");
  await beating;
});

for (const code of ["SESSION_REPLACED", "HRL_INVALID", "DISK_FOREIGN", "PEER_UNTRUSTED"])
  test(`${code} ends the session, and so every other batch of it`, async (t) => {
    const { client } = scripted(unavailable(), refusal(code));
    const { session } = sessionOf(t, client);
    const outcomes = await Promise.allSettled([
      session.send(DISK, batchOf(0)),
      session.send(DISK, batchOf(1)),
    ]);
    for (const outcome of outcomes)
      assert.equal(outcome.status === "rejected" && outcome.reason.code, "SESSION_LOST");
    assert.equal(session.signal.reason.cause.code, code);
  });

test("another owner of the log ends the session: the next one claims it again", async (t) => {
  for (const details of [{ kind: "handover" }, {}]) {
    const { client } = scripted(refusal("LOG_FENCED", details));
    const { session } = sessionOf(t, client);
    await assert.rejects(session.send(DISK, batchOf(0)), { code: "SESSION_LOST" });
    assert.equal(session.signal.aborted, true);
  }
});

test("a log that is fenced by a failover ends the disk's batches, not the session", async (t) => {
  const { client } = scripted(refusal("LOG_FENCED", { kind: "failover" }), REPLY);
  const { session } = sessionOf(t, client);
  await assert.rejects(session.send(DISK, batchOf(0)), { code: "LOG_FENCED" });
  assert.equal(session.signal.aborted, false);
  await session.send(uuidOfName("another"), batchOf(0));
});

test("records out of order are sent again where their bytes are still here, else the session is lost", async (t) => {
  const expects = (recordNo: number): OsrError =>
    refusal("RECORDS_OUT_OF_ORDER", { interval: 1, recordNo });
  const held = sessionOf(t, scripted(expects(3), REPLY).client);
  assert.equal((await held.session.send(DISK, batchOf(3))).attempts, 2);
  const gone = sessionOf(t, scripted(expects(2)).client);
  await assert.rejects(gone.session.send(DISK, batchOf(3)), { code: "SESSION_LOST" });
});

test("what is under way answers whether a record can be sent again", () => {
  const underWay = new BatchesUnderWay();
  assert.equal(underWay.holds({ interval: 1, recordNo: 0 }), false);
  underWay.add(batchOf(4, 2));
  underWay.add(batchOf(3, 2));
  assert.equal(underWay.holds({ interval: 2, recordNo: 3 }), true);
  assert.equal(underWay.holds({ interval: 2, recordNo: 2 }), false);
  assert.equal(underWay.holds({ interval: 1, recordNo: 9 }), false);
  assert.equal(underWay.holds({ interval: 3, recordNo: 0 }), false);
  underWay.add(batchOf(0, 2));
  assert.equal(underWay.holds({ interval: 1, recordNo: 9 }), true);
});

test("heartbeats go on through failures and end with the session", async (t) => {
  const reply = { disks: [], delayMs: 0 };
  const { client, calls } = scripted(reply, unavailable(), reply, refusal("SESSION_REPLACED"));
  const { session, time } = sessionOf(t, client);
  let replies = 0;
  await session.heartbeats(
    () => ({ pointsMissed: 7, health: [] }),
    () => (replies += 1),
  );
  assert.equal(replies, 2);
  assert.deepEqual(calls[0], { epoch: 5, pointsMissed: 7, health: [] });
  assert.ok(time.monotonicMs() >= 3000);
  assert.equal(session.signal.reason.code, "SESSION_LOST");
});

test("epochs follow the clock, grow without it, and jump over the newest that is known", async (t) => {
  const stale = refusal("EPOCH_STALE", { newestEpoch: 9e12 });
  const { client, calls } = scripted(GRANTED, GRANTED, stale, GRANTED);
  const ports = portsOf(client);
  passing(t, ports.time);
  const opener = new SessionOpener(ports, IDENTITY);
  const never = new AbortController().signal;
  const first = await opener.open([], never);
  assert.equal(first.epoch, ports.time.unixMs());
  ports.time.unixOffsetMs = -1e9;
  assert.equal((await opener.open([], never)).epoch, first.epoch + 1);
  assert.equal((await opener.open([], never)).epoch, 9e12 + 1);
  assert.equal(calls.length, 4);
});

test("opening goes on for ever, says why, and ends with the signal", async (t) => {
  const failures = Array.from({ length: 30 }, () => unavailable());
  const { client, calls } = scripted(...failures, refusal("DISK_FOREIGN"), GRANTED);
  const ports = portsOf(client);
  passing(t, ports.time);
  const opener = new SessionOpener(ports, IDENTITY);
  await opener.open([], new AbortController().signal);
  assert.equal(calls.length, 32);
  assert.equal(opener.failure, undefined);
  const stopped = new AbortController();
  stopped.abort(new Error("stopped"));
  await assert.rejects(opener.open([], stopped.signal), /stopped/);
});

test("a machine that may not replicate is asked about once a minute", async (t) => {
  const fenced = refusal("LOG_FENCED", { kind: "failover" });
  const { client } = scripted(fenced, refusal("MACHINE_IS_REPLICA"), unavailable(), GRANTED);
  const ports = portsOf(client);
  passing(t, ports.time);
  const opener = new SessionOpener(ports, IDENTITY);
  await opener.open([], new AbortController().signal);
  assert.ok(ports.time.monotonicMs() >= 120_000);
  assert.equal(opener.refusal, undefined);
});

for (const [what, refusal] of [
  ["was not reached", unavailable()],
  ["showed no certificate to be trusted", new OsrError(HTTPS_ERRORS.PEER_UNTRUSTED, "expired")],
  ["took the machine's for revoked", new OsrError(HTTPS_ERRORS.CERTIFICATE_REVOKED, "revoked")],
] as const)
  test(`the next process server is tried when one ${what} for a minute, and kept when it answers`, async (t) => {
    const second = scripted(unavailable(), GRANTED);
    const dead: ProcessServerClient = {
      ...second.client,
      openSession: () => Promise.reject(refusal),
    };
    const ports = portsOf(dead);
    passing(t, ports.time);
    const servers = [
      { address: "first", client: dead },
      { address: "second", client: second.client },
    ];
    const processServers = new ConfiguredProcessServers(servers, ports.time);
    const opener = new SessionOpener({ ...ports, processServers }, IDENTITY);
    const session = await opener.open([], new AbortController().signal);
    assert.equal(session.processServer.address, "second");
    assert.ok(ports.time.monotonicMs() >= UNREACHABLE_MS_MAX);
    assert.equal(processServers.current, session.processServer);
  });
