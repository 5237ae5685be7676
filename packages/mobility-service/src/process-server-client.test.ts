import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { uuidOfName } from "@osr/base/uuid";
import { createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import {
  AGENT_PROTOCOL_STATUS,
  type BatchReply,
  type SessionRequest,
} from "@osr/contracts/agent-protocol";
import { HttpsClient } from "@osr/https/https-client";
import { startHttpsServer } from "@osr/https/https-server";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";

import { type ProcessServerClient, httpsProcessServer } from "./process-server-client.ts";

const DISK = uuidOfName("disk");
const SESSION: SessionRequest = {
  protocol: 1,
  epoch: 7,
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
  disks: [],
};
const never = new AbortController().signal;

type Seen = { readonly path: string; readonly body: Buffer; readonly length: string };

/** A server with mutual TLS that answers what it is told, and the agent's client for it. */
async function link(
  t: TestContext,
  answer: () => unknown,
): Promise<{ client: ProcessServerClient; seen: Seen[] }> {
  const validity = { days: 1, clock: systemClock };
  const authority = await createAuthority({ commonName: "test", ...validity });
  const names = { commonName: "x", ipAddresses: ["127.0.0.1"], ...validity };
  const server = await issueCertificate(authority, { ...names, usage: "server" });
  const identity = await issueCertificate(authority, { ...names, usage: "client" });
  const seen: Seen[] = [];
  const listening = await startHttpsServer({
    host: "127.0.0.1",
    port: 0,
    tls: { ...server, clientAuthorityPem: authority.certificatePem },
    log: silentLog,
    scheduler: systemScheduler,
    handler: async (request, response) => {
      const body = await readBody(request, 6_000_000);
      const length = request.headers["content-length"] ?? "";
      seen.push({ path: `${request.method} ${request.url}`, body, length });
      const reply = answer();
      if (reply instanceof Error) sendError(response, reply, AGENT_PROTOCOL_STATUS, silentLog);
      else if (Buffer.isBuffer(reply)) response.end(reply);
      else sendJson(response, 200, reply);
    },
  });
  const client = new HttpsClient({
    baseUrl: `https://127.0.0.1:${listening.port}`,
    authorityPem: authority.certificatePem,
    identity,
    socketsMax: 2,
    timeoutMs: 10_000,
    scheduler: systemScheduler,
  });
  t.after(async () => {
    client[Symbol.dispose]();
    await listening.close();
  });
  return { client: httpsProcessServer(client), seen };
}

test("the three requests go where the protocol says, with what it says", async (t) => {
  const ack = { diskId: DISK, spooledInterval: 1, spooledRecordNo: 2, vaultedInterval: 0 };
  const batchReply: BatchReply = { ...ack, delayMs: 3 };
  const replies: unknown[] = [
    { groupId: uuidOfName("group"), newestSlot: -1, disks: [] },
    batchReply,
    { disks: [ack], delayMs: 0 },
  ];
  const { client, seen } = await link(t, () => replies.shift());
  assert.equal((await client.openSession(SESSION, never)).newestSlot, -1);
  const body = Buffer.alloc(3_000_000, 7);
  assert.deepEqual(await client.sendBatch(DISK, body, never), batchReply);
  const heartbeat = { epoch: 7, pointsMissed: 0, health: [] };
  assert.deepEqual((await client.heartbeat(heartbeat, never)).disks, [ack]);
  assert.deepEqual(
    seen.map(({ path }) => path),
    ["POST /v1/session", `POST /v1/disks/${DISK}/batches`, "POST /v1/heartbeat"],
  );
  assert.deepEqual(JSON.parse(seen[0]?.body.toString() ?? ""), SESSION);
  assert.ok(seen[1]?.body.equals(body) === true && seen[1].length === "3000000");
});

test("the requests of a comparison, and hashes of any wrong length", async (t) => {
  const comparison = { headSeq: 12, blockCount: 300, key: "ab" };
  const replies = [comparison, ...[32, 4096, 0, 48, 33, 4080].map((bytes) => Buffer.alloc(bytes))];
  const { client, seen } = await link(t, () => replies.shift());
  assert.deepEqual(await client.openComparison(DISK, { epoch: 7 }, never), comparison);
  const at = { headSeq: 12, epoch: 7, granule: 3 };
  const hashes = (): Promise<Buffer> => client.granuleHashes(DISK, { ...at, count: 2 }, never);
  assert.equal((await hashes()).length, 32);
  assert.equal((await client.blockHashes(DISK, at, never)).length, 4096);
  for (const _ of [0, 48, 33]) await assert.rejects(hashes(), { code: "REPLY_INVALID" });
  await assert.rejects(client.blockHashes(DISK, at, never), { code: "REPLY_INVALID" });
  assert.deepEqual(
    seen.slice(0, 3).map(({ path }) => path),
    [
      `POST /v1/disks/${DISK}/comparison`,
      `GET /v1/disks/${DISK}/comparison/12/hashes?epoch=7&granule=3&count=2`,
      `GET /v1/disks/${DISK}/comparison/12/blocks?epoch=7&granule=3`,
    ],
  );
});

test("refusals arrive with their code, details and the time to wait", async (t) => {
  const refusal = (code: string, details: object): OsrError =>
    new OsrError({ code, retryable: false, hint: "hint" }, "message", { details });
  const replies = [
    refusal("CACHE_FULL", { retryAfterMs: 7000 }),
    refusal("RECORDS_OUT_OF_ORDER", { interval: 3, recordNo: 4 }),
    refusal("LOG_FENCED", {}),
  ];
  const { client } = await link(t, () => replies.shift());
  const send = (): Promise<BatchReply> => client.sendBatch(DISK, Buffer.from("x"), never);
  const full = await send().catch((error: unknown) => error);
  assert.ok(full instanceof OsrError && full.code === "CACHE_FULL" && full.retryable);
  assert.equal((full.details as { retryAfterMs?: number }).retryAfterMs, 7000);
  const early = await send().catch((error: unknown) => error);
  assert.ok(early instanceof OsrError && !early.retryable);
  assert.equal((early.details as { recordNo?: number }).recordNo, 4);
  await assert.rejects(send(), { code: "LOG_FENCED", retryable: false });
});

test("a reply that is none of the protocol is refused for good", async (t) => {
  const { client } = await link(t, () => ({ hello: "world" }));
  await assert.rejects(client.sendBatch(DISK, Buffer.from("x"), never), {
    code: "REPLY_INVALID",
    retryable: false,
  });
});
