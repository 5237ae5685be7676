import { parseJson, type Shape } from "@osr/base/json-shape";
import { OsrError, defineErrors } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import {
  type BatchReply,
  type ComparisonReply,
  type ComparisonRequest,
  type GranuleOfComparison,
  type GranulesOfComparison,
  type HeartbeatReply,
  type HeartbeatRequest,
  type SessionReply,
  type SessionRequest,
  batchReplyShape,
  comparisonReplyShape,
  heartbeatReplyShape,
  routes,
  sessionReplyShape,
} from "@osr/contracts/agent-protocol";
import { COMPARISON_HASH_BYTES, GRANULE_BLOCKS } from "@osr/contracts/disk-comparison";
import type { HttpsClient } from "@osr/https/https-client";

/** Claiming logs in the storage account is part of opening a session. */
const SESSION_TIMEOUT_MS = 60 * SECOND_MS;
/** The process server may hold a batch for 30 s until those before it arrive; the rest is for a slow link. */
const BATCH_TIMEOUT_MS = 120 * SECOND_MS;
/** Opening a comparison is answered within 20 s, hashes after one group of reads from the storage account at the latest. */
const COMPARISON_TIMEOUT_MS = 120 * SECOND_MS;
const HEARTBEAT_TIMEOUT_MS = 10 * SECOND_MS;

const ERRORS = defineErrors({
  REPLY_INVALID: {
    retryable: false,
    hint: "Compare the versions of the mobility service and the process server, and look for a proxy between them.",
  },
});

/**
 * The process server as the agent sees it: docs/formats/agent-protocol.md. Every call rejects with the error that the
 * process server answered (its code and details), with a retryable error where it was not reached (the call may have had
 * its effect), or with the signal's reason. `details.retryAfterMs` is there where it was asked to wait.
 */
export interface ProcessServerClient {
  openSession(request: SessionRequest, signal: AbortSignal): Promise<SessionReply>;
  sendBatch(diskId: Uuid, body: Buffer, signal: AbortSignal): Promise<BatchReply>;
  heartbeat(request: HeartbeatRequest, signal: AbortSignal): Promise<HeartbeatReply>;
  openComparison(
    diskId: Uuid,
    request: ComparisonRequest,
    signal: AbortSignal,
  ): Promise<ComparisonReply>;
  /** Whole hashes, from one to as many as were asked for. */
  granuleHashes(diskId: Uuid, at: GranulesOfComparison, signal: AbortSignal): Promise<Buffer>;
  /** A hash for each block of the granule. */
  blockHashes(diskId: Uuid, at: GranuleOfComparison, signal: AbortSignal): Promise<Buffer>;
}

export function httpsProcessServer(client: HttpsClient): ProcessServerClient {
  const post = async <T>(
    path: string,
    body: Buffer,
    shape: Shape<T>,
    limits: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<T> => {
    const reply = await client.request({ method: "POST", path, body, ...limits });
    try {
      return parseJson(reply.body.toString("utf8"), shape);
    } catch (cause) {
      throw new OsrError(ERRORS.REPLY_INVALID, `unexpected reply to ${path}`, { cause });
    }
  };
  const hashes = async (path: string, countMax: number, signal: AbortSignal): Promise<Buffer> => {
    const request = { method: "GET", path, timeoutMs: COMPARISON_TIMEOUT_MS, signal };
    const { body } = await client.request(request);
    const count = body.length / COMPARISON_HASH_BYTES;
    if (Number.isInteger(count) && count >= 1 && count <= countMax) return body;
    throw new OsrError(ERRORS.REPLY_INVALID, `unexpected reply to ${path}`);
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value), "utf8");
  return {
    openSession: (request, signal) =>
      post(routes.session, json(request), sessionReplyShape, {
        timeoutMs: SESSION_TIMEOUT_MS,
        signal,
      }),
    sendBatch: (diskId, body, signal) =>
      post(routes.batches(diskId), body, batchReplyShape, { timeoutMs: BATCH_TIMEOUT_MS, signal }),
    heartbeat: (request, signal) =>
      post(routes.heartbeat, json(request), heartbeatReplyShape, {
        timeoutMs: HEARTBEAT_TIMEOUT_MS,
        signal,
      }),
    openComparison: (diskId, request, signal) =>
      post(routes.comparison(diskId), json(request), comparisonReplyShape, {
        timeoutMs: COMPARISON_TIMEOUT_MS,
        signal,
      }),
    granuleHashes: (diskId, at, signal) =>
      hashes(routes.granuleHashes(diskId, at), at.count, signal),
    blockHashes: async (diskId, at, signal) => {
      const path = routes.blockHashes(diskId, at);
      const body = await hashes(path, GRANULE_BLOCKS, signal);
      if (body.length === GRANULE_BLOCKS * COMPARISON_HASH_BYTES) return body;
      throw new OsrError(ERRORS.REPLY_INVALID, `unexpected reply to ${path}`);
    },
  };
}
