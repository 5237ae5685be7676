import type { IncomingMessage, ServerResponse } from "node:http";

import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { OsrError, isRetryable, messageOf } from "@osr/base/errors";
import { type Shape, integer, parseJson } from "@osr/base/json-shape";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { type Uuid, isUuid } from "@osr/base/uuid";
import {
  BATCH_BYTES_MAX,
  type BatchReply,
  type ComparisonReply,
  HEALTH_ERRORS_MAX,
  type HealthError,
  type HeartbeatReply,
  type HeartbeatRequest,
  JSON_BYTES_MAX,
  comparisonRequestShape,
  heartbeatRequestShape,
  routes,
  sessionRequestShape,
} from "@osr/contracts/agent-protocol";
import { GRANULES_PER_REQUEST_MAX, granulesOf } from "@osr/contracts/disk-comparison";
import { decodeHrlHeader } from "@osr/contracts/hrl-record";
import { peerNameOf } from "@osr/https/peer-name";
import { sendError, sendJson } from "@osr/https/replies";
import { readBody } from "@osr/https/request-body";

import { parseBatch } from "./batch.ts";
import type { ByteBudget } from "./byte-budget.ts";
import type { DiskComparisons } from "./disk-comparisons.ts";
import { PROCESS_SERVER_ERRORS, PROCESS_SERVER_STATUS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import { streamHealth } from "./role-health.ts";
import {
  type SessionGrant,
  type SessionOpening,
  checkSessionRequest,
  openSession,
  resumeSession,
} from "./session-opening.ts";
import { Session, SessionTable } from "./session-table.ts";

const COMPARISON_PATH =
  /^\/v1\/disks\/([0-9a-f-]{36})\/comparison(?:\/(\d{1,10})\/(hashes|blocks))?$/;
const BATCH_PATH = /^\/v1\/disks\/([0-9a-f-]{36})\/batches$/;

/** Batches that wait this long for memory make others give way that only wait for their predecessors. */
const MEMORY_WAIT_MS = 2 * SECOND_MS;

/** A machine whose logs another owner has claimed and which is silent for so long has moved. */
const MOVED_SILENT_MS = 2 * MINUTE_MS;

const RESUMING: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: SECOND_MS / 4,
  delayMaxMs: 30 * SECOND_MS,
};

export type AgentApiParts = SessionOpening & {
  readonly context: RoleContext;
  readonly bodies: ByteBudget;
  readonly comparisons: DiskComparisons;
  /** What is wrong with the process server as a whole. */
  placeHealth(): readonly HealthError[];
};

/** The HTTPS API for agents: docs/formats/agent-protocol.md. */
export class AgentApi {
  readonly sessions = new SessionTable<SessionGrant>();
  readonly #parts: AgentApiParts;
  readonly #lastSeenMs = new Map<Uuid, number>();
  readonly #reports = new Map<Uuid, HeartbeatRequest>();
  readonly #stop = new AbortController();
  readonly #resuming = new Map<Uuid, Promise<void>>();

  constructor(parts: AgentApiParts) {
    this.#parts = parts;
  }

  /** Refuses every request from now on, and ends the openings of sessions that are under way. */
  stop(): void {
    const reason = new OsrError(PROCESS_SERVER_ERRORS.STOPPING, "the process server is stopping");
    this.#stop.abort(reason);
  }

  /** When a machine was last heard of, on the monotonic clock. */
  lastSeenMs(machineId: Uuid): number | undefined {
    return this.#lastSeenMs.get(machineId);
  }

  /** What a machine said in its last heartbeat. */
  reportOf(machineId: Uuid): HeartbeatRequest | undefined {
    return this.#reports.get(machineId);
  }

  /**
   * Forgets machines that use another process server by now: nothing of them is here any more, and nothing is wrong with that.
   * One that still asks, such as the source of a failover, goes on being told that its logs are fenced.
   */
  async forgetMoved(): Promise<void> {
    const nowMs = this.#parts.context.clock.monotonicMs();
    for (const { session, grant } of this.sessions.grants()) {
      const { machineId } = session;
      const streams = [...grant.disks.values()].map(({ stream }) => stream);
      const silentMs = nowMs - (this.#lastSeenMs.get(machineId) ?? nowMs);
      const hasMoved = silentMs >= MOVED_SILENT_MS && streams.every(({ isFenced }) => isFenced);
      if (!hasMoved || !this.sessions.forget(machineId)) continue;
      this.#lastSeenMs.delete(machineId);
      this.#reports.delete(machineId);
      for (const stream of streams) await this.#parts.streams.forget(stream);
      this.#parts.context.log.info("the machine has moved", { machineId });
    }
  }

  /**
   * Goes on with the sessions of an earlier run: what is spooled is uploaded also where a machine does not come back. Tries
   * until it is told to stop.
   */
  async resumeAll(): Promise<void> {
    const machineIds = await this.#parts.stored.machineIds();
    await Promise.all(machineIds.map((machineId) => this.#resumePersistently(machineId)));
  }

  async #resumePersistently(machineId: Uuid): Promise<void> {
    const { log, randomness, scheduler } = this.#parts.context;
    const { signal } = this.#stop;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.#resume(machineId);
        return;
      } catch (error) {
        const message = messageOf(error);
        log.warn("a session of an earlier run does not go on", { machineId, error: message });
        if (!isRetryable(error)) return;
      }
      const delayMs = retryDelayMs(RESUMING, attempt + 1, randomness);
      await scheduler.sleep(delayMs, signal).catch(() => undefined);
    }
  }

  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const ended = AbortSignal.any([signal, this.#stop.signal]);
      const reply = await this.#route(request, ended);
      if (Buffer.isBuffer(reply)) sendBytes(response, reply);
      else sendJson(response, 200, reply);
    } catch (error) {
      sendError(response, error, PROCESS_SERVER_STATUS, this.#parts.context.log);
    }
  }

  #route(request: IncomingMessage, signal: AbortSignal): Promise<unknown> {
    this.#stop.signal.throwIfAborted();
    const machineId = machineIdOf(request);
    this.#lastSeenMs.set(machineId, this.#parts.context.clock.monotonicMs());
    const { method, url } = request;
    const [, diskId] = BATCH_PATH.exec(url ?? "") ?? [];
    if (method === "POST" && isUuid(diskId)) return this.#batch(request, machineId, diskId, signal);
    if (method === "POST" && url === routes.session)
      return this.#session(request, machineId, signal);
    if (method === "POST" && url === routes.heartbeat) return this.#heartbeat(request, machineId);
    const [path = "", query = ""] = (url ?? "").split("?", 2);
    const [, compared, headSeq, kind] = COMPARISON_PATH.exec(path) ?? [];
    if (method === "POST" && isUuid(compared) && headSeq === undefined)
      return this.#comparison(request, machineId, compared, signal);
    if (method === "GET" && isUuid(compared) && headSeq !== undefined) {
      const wanted = hashesOf(query, Number(headSeq), kind === "hashes");
      return this.#hashes(machineId, compared, wanted, signal);
    }
    throw new OsrError(PROCESS_SERVER_ERRORS.NOT_FOUND, `there is no ${method} ${url}`);
  }

  async #session(request: IncomingMessage, machineId: Uuid, signal: AbortSignal): Promise<unknown> {
    const wanted = await readJson(request, sessionRequestShape);
    const granted = this.sessions.granted(machineId)?.grant;
    const known = granted === undefined ? await this.#parts.stored.read(machineId) : undefined;
    checkSessionRequest(wanted, granted ?? known);
    if (known !== undefined) this.sessions.seenEpoch(machineId, known.epoch);
    let reply: unknown;
    await this.sessions.open(new Session(machineId, wanted.epoch), async (session) => {
      const opened = await openSession(this.#parts, session, wanted, signal);
      reply = opened.reply;
      return opened.grant;
    });
    this.#parts.context.log.info("session", { machineId, epoch: wanted.epoch });
    return reply;
  }

  /** The session of `epoch`, also where it is one of an earlier run. */
  async #current(
    machineId: Uuid,
    epoch: number,
  ): Promise<{ readonly session: Session; readonly grant: SessionGrant }> {
    if (this.sessions.granted(machineId) === undefined) await this.#resume(machineId);
    return this.sessions.current(machineId, epoch);
  }

  /** Resolves at once where there is nothing to go on with. */
  #resume(machineId: Uuid): Promise<void> {
    const known = this.#resuming.get(machineId);
    if (known !== undefined) return known;
    const resuming = this.#resumeStored(machineId).finally(() => this.#resuming.delete(machineId));
    this.#resuming.set(machineId, resuming);
    return resuming;
  }

  async #resumeStored(machineId: Uuid): Promise<void> {
    const { stored, context } = this.#parts;
    const request = await stored.read(machineId);
    if (request === undefined || this.sessions.granted(machineId) !== undefined) return;
    const { epoch } = request;
    // Not the signal of one request: others wait for it, too.
    await this.sessions.resume(new Session(machineId, epoch), (session) =>
      resumeSession(this.#parts, session, request, this.#stop.signal),
    );
    context.log.info("session goes on after a restart", { machineId, epoch });
  }

  async #heartbeat(request: IncomingMessage, machineId: Uuid): Promise<HeartbeatReply> {
    const report = await readJson(request, heartbeatRequestShape);
    const { grant } = await this.#current(machineId, report.epoch);
    this.#reports.set(machineId, report);
    const newestPoint = this.#parts.points.newestPoint(grant.groupId);
    const streams = [...grant.disks.values()].map(({ stream }) => stream);
    return {
      disks: streams.map(({ acked }) => acked),
      delayMs: this.#parts.context.cache.delayMs,
      health: [...this.#parts.placeHealth(), ...streams.flatMap(streamHealth)].slice(
        0,
        HEALTH_ERRORS_MAX,
      ),
      bytes: streams.map(({ status }) => ({
        diskId: status.diskId,
        spooledBytes: status.encodedBytes,
        pendingUploadBytes: status.pendingUploadBytes,
        vaultedBytes: status.uploadedBytes,
      })),
      unixMs: Math.max(0, Math.floor(this.#parts.context.clock.unixMs())),
      ...(newestPoint === undefined ? {} : { newestPoint }),
    };
  }

  async #batch(
    request: IncomingMessage,
    machineId: Uuid,
    diskId: Uuid,
    signal: AbortSignal,
  ): Promise<BatchReply> {
    const { context } = this.#parts;
    if (this.sessions.granted(machineId) === undefined) await this.#resume(machineId);
    const granted = this.sessions.granted(machineId);
    if (granted === undefined) throw unknownSession();
    if (!granted.grant.disks.has(diskId)) throw foreignDisk(diskId);
    this.#checkRoom();
    using _ = await this.#memoryFor(request, signal);
    const body = await readBody(request, BATCH_BYTES_MAX);
    context.metrics.receivedBytes.inc(body.length);
    const { session, grant } = this.sessions.current(machineId, decodeHrlHeader(body, 0).session);
    const disk = grant.disks.get(diskId);
    if (disk === undefined) throw foreignDisk(diskId);
    const batch = parseBatch(body, { diskSizeBytes: disk.sizeBytes });
    await disk.stream.submit(session, body, batch);
    return { ...disk.stream.acked, delayMs: context.cache.delayMs };
  }

  async #comparison(
    request: IncomingMessage,
    machineId: Uuid,
    diskId: Uuid,
    signal: AbortSignal,
  ): Promise<ComparisonReply> {
    const { epoch } = await readJson(request, comparisonRequestShape);
    const { session, grant } = await this.#current(machineId, epoch);
    const disk = grant.disks.get(diskId);
    if (disk === undefined) throw foreignDisk(diskId);
    return await this.#parts.comparisons.open(session, disk, signal);
  }

  async #hashes(
    machineId: Uuid,
    diskId: Uuid,
    wanted: WantedHashes,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const { epoch, headSeq, granule, count } = wanted;
    const { session, grant } = await this.#current(machineId, epoch);
    const disk = grant.disks.get(diskId);
    if (disk === undefined) throw foreignDisk(diskId);
    const comparison = await this.#parts.comparisons.current(session, disk.stream, headSeq);
    if (granule >= comparison.granules)
      throw new OsrError(
        PROCESS_SERVER_ERRORS.INPUT_INVALID,
        `granule must be below ${comparison.granules}`,
      );
    return count === undefined
      ? await comparison.blockHashes(granule, signal)
      : await comparison.granuleHashes(granule, count, signal);
  }

  #checkRoom(): void {
    const { cache, metrics } = this.#parts.context;
    try {
      cache.checkRoom();
    } catch (error) {
      metrics.throttled.inc();
      throw error;
    }
  }

  async #memoryFor(request: IncomingMessage, signal: AbortSignal): Promise<Disposable> {
    const { bodies, streams, context } = this.#parts;
    const bytes = Number(request.headers["content-length"]);
    if (!Number.isSafeInteger(bytes))
      throw new OsrError(PROCESS_SERVER_ERRORS.LENGTH_REQUIRED, "Content-Length is missing");
    // What is too long is refused when it is read.
    if (bytes > BATCH_BYTES_MAX) return { [Symbol.dispose]: () => undefined };
    using _ = context.scheduler.after(MEMORY_WAIT_MS, () => {
      for (const stream of streams.all()) stream.refuseHeld();
    });
    return await bodies.take(bytes, signal);
  }
}

/** `count` is absent where the blocks of one granule are wanted. */
type WantedHashes = {
  readonly epoch: number;
  readonly headSeq: number;
  readonly granule: number;
  readonly count?: number | undefined;
};

const GRANULES_MAX = granulesOf(DISK_BYTES_MAX);

/** The query of a request for hashes. Throws INPUT_INVALID with the field. */
function hashesOf(query: string, headSeq: number, isOfGranules: boolean): WantedHashes {
  const fields = new URLSearchParams(query);
  const numberOf = (name: string): number => Number(fields.get(name) ?? Number.NaN);
  return {
    headSeq,
    epoch: integer(1)(numberOf("epoch"), "epoch"),
    granule: integer(0, GRANULES_MAX)(numberOf("granule"), "granule"),
    count: isOfGranules
      ? integer(1, GRANULES_PER_REQUEST_MAX)(numberOf("count"), "count")
      : undefined,
  };
}

function sendBytes(response: ServerResponse, bytes: Buffer): void {
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-length": bytes.length,
  });
  response.end(bytes);
}

/** The machine that the client certificate names. Throws CERTIFICATE_REQUIRED. */
function machineIdOf(request: IncomingMessage): Uuid {
  const peer = peerNameOf(request);
  if (peer?.role === "mobility-service") return peer.id;
  throw new OsrError(
    PROCESS_SERVER_ERRORS.CERTIFICATE_REQUIRED,
    "the client certificate names no mobility service",
  );
}

async function readJson<T>(request: IncomingMessage, shape: Shape<T>): Promise<T> {
  return parseJson((await readBody(request, JSON_BYTES_MAX)).toString("utf8"), shape);
}

function unknownSession(): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.SESSION_REPLACED,
    "the machine has no session here; the process server may have been started again",
  );
}

function foreignDisk(diskId: Uuid): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.DISK_FOREIGN,
    `disk ${diskId} was not granted to this machine`,
  );
}
