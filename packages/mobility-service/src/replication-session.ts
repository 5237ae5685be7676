import { must } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { OsrError, hasCode, isRetryable, messageOf, systemErrorCode } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type {
  ComparisonReply,
  GranuleOfComparison,
  GranulesOfComparison,
  HeartbeatReply,
  HeartbeatRequest,
  SessionReply,
} from "@osr/contracts/agent-protocol";

import { BatchesUnderWay } from "./batches-under-way.ts";
import type { WrittenBatch } from "./batch-writer.ts";
import type { ComparisonSession } from "./disk-comparison.ts";
import type { BatchSender, SentBatch } from "./disk-replication.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { AssignedProcessServer } from "./process-server-assignment.ts";
import type { ProcessServerClient } from "./process-server-client.ts";

const HEARTBEAT_MS = SECOND_MS;
/** Longest wait that a process server may ask for at once. */
const DELAY_MS_MAX = MINUTE_MS;

/** What ends the comparison of one disk, not the session. */
const DISK_ERRORS = [MOBILITY_ERRORS.COMPARISON_GONE, MOBILITY_ERRORS.COMPARISON_FAILED];

export const RETRIES: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: 200,
  delayMaxMs: 5 * SECOND_MS,
};

export type SessionPorts = {
  readonly processServer: AssignedProcessServer;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

/**
 * One session with a process server, from its grant until it is lost. States: granted, then lost (its signal is aborted),
 * for good. While it is granted, batches are sent again until they are spooled, however long the process server is away;
 * their bytes are kept meanwhile, so that nothing that was spooled is sent twice.
 */
export class ReplicationSession implements BatchSender, ComparisonSession {
  readonly epoch: number;
  readonly granted: SessionReply;
  readonly #ports: SessionPorts;
  readonly #lost = new AbortController();
  readonly #underWay = new Map<Uuid, BatchesUnderWay>();
  #notBeforeMs = 0;
  /** When a batch was answered last. */
  #answeredMs = 0;
  #unreachable: unknown;
  #busy: OsrError | undefined;

  constructor(ports: SessionPorts, epoch: number, granted: SessionReply, stopped: AbortSignal) {
    this.#ports = ports;
    this.epoch = epoch;
    this.granted = granted;
    stopped.addEventListener("abort", () => this.#lost.abort(stopped.reason), {
      once: true,
      signal: this.#lost.signal,
    });
    if (stopped.aborted) this.#lost.abort(stopped.reason);
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  get processServer(): AssignedProcessServer {
    return this.#ports.processServer;
  }

  /** Why the last request did not reach the process server, or undefined. */
  get unreachable(): unknown {
    return this.#unreachable;
  }

  /** Why the process server takes nothing of this machine's disks at the moment, such as CACHE_FULL, or undefined. */
  get busy(): OsrError | undefined {
    return this.#busy;
  }

  /** Ends the session here; the process server need not know. */
  lose(cause: unknown): void {
    if (this.signal.aborted) return;
    const message = `session ${this.epoch} is lost: ${messageOf(cause)}`;
    this.#lost.abort(new OsrError(MOBILITY_ERRORS.SESSION_LOST, message, { cause }));
  }

  async send(diskId: Uuid, batch: WrittenBatch): Promise<SentBatch> {
    let underWay = this.#underWay.get(diskId);
    if (underWay === undefined) this.#underWay.set(diskId, (underWay = new BatchesUnderWay()));
    underWay.add(batch);
    try {
      for (let attempts = 1, sends = 1; ; attempts++) {
        await this.#pause();
        try {
          const reply = await this.#client.sendBatch(diskId, batch.body, this.signal);
          this.signal.throwIfAborted();
          this.#answeredMs = this.#ports.clock.monotonicMs();
          this.#delay(reply.delayMs);
          this.#unreachable = this.#busy = undefined;
          return { reply, attempts, sends };
        } catch (error) {
          if (!isUnsent(error)) sends += 1;
          await this.#failed(error, underWay, attempts);
        }
      }
    } finally {
      underWay.delete(batch);
    }
  }

  openComparison(diskId: Uuid): Promise<ComparisonReply> {
    const client = this.#client;
    return this.#ask(() => client.openComparison(diskId, { epoch: this.epoch }, this.signal));
  }

  granuleHashes(diskId: Uuid, at: GranulesOfComparison): Promise<Buffer> {
    return this.#ask(() => this.#client.granuleHashes(diskId, at, this.signal));
  }

  blockHashes(diskId: Uuid, at: GranuleOfComparison): Promise<Buffer> {
    return this.#ask(() => this.#client.blockHashes(diskId, at, this.signal));
  }

  /** Sends heartbeats until the session is lost, and hands their replies on. */
  async heartbeats(
    request: () => Omit<HeartbeatRequest, "epoch">,
    onReply: (reply: HeartbeatReply) => void,
  ): Promise<void> {
    while (!this.signal.aborted) {
      try {
        const body = { epoch: this.epoch, ...request() };
        const reply = await this.#client.heartbeat(body, this.signal);
        if (this.signal.aborted) return;
        this.#unreachable = undefined;
        // Counted from the last batch: from each heartbeat on, it would never be over.
        this.#delay(reply.delayMs, this.#answeredMs);
        onReply(reply);
      } catch (error) {
        if (isRetryable(error)) this.#unreachable = error;
        else this.lose(error);
      }
      await this.#sleep(HEARTBEAT_MS).catch(() => undefined);
    }
  }

  /** Asks again until there is an answer. What concerns one disk is thrown; all else that is final loses the session. */
  async #ask<T>(request: () => Promise<T>): Promise<T> {
    for (let attempts = 1; ; attempts++) {
      this.signal.throwIfAborted();
      try {
        const reply = await request();
        this.signal.throwIfAborted();
        this.#unreachable = undefined;
        return reply;
      } catch (error) {
        this.signal.throwIfAborted();
        if (isFailover(error) || DISK_ERRORS.some((info) => hasCode(error, info))) throw error;
        if (!isRetryable(error)) this.#loseAndThrow(error);
        const { retryAfterMs }: { retryAfterMs?: unknown } =
          error instanceof OsrError ? error.details : {};
        const isBusy = typeof retryAfterMs === "number";
        this.#unreachable = isBusy ? undefined : error;
        await this.#sleep(
          isBusy
            ? Math.min(retryAfterMs, DELAY_MS_MAX)
            : retryDelayMs(RETRIES, attempts + 1, this.#ports.randomness),
        );
      }
    }
  }

  /** Waits before the next attempt, or throws where there is none. */
  async #failed(error: unknown, underWay: BatchesUnderWay, attempts: number): Promise<void> {
    this.signal.throwIfAborted();
    const details: { retryAfterMs?: unknown; interval?: unknown; recordNo?: unknown } =
      error instanceof OsrError ? error.details : {};
    const code = error instanceof OsrError ? error.code : "";
    if (isFailover(error)) throw error;
    if (code === "RECORDS_OUT_OF_ORDER") {
      const { interval, recordNo } = details;
      const isHeld =
        typeof interval === "number" &&
        typeof recordNo === "number" &&
        underWay.holds({ interval, recordNo });
      if (!isHeld) this.#loseAndThrow(error);
    } else if (isRetryable(error)) {
      const isBusy = typeof details.retryAfterMs === "number";
      if (isBusy) this.#delay(Number(details.retryAfterMs));
      this.#unreachable = isBusy ? undefined : error;
      this.#busy = isBusy && error instanceof OsrError ? error : undefined;
    } else {
      this.#loseAndThrow(error);
    }
    await this.#sleep(retryDelayMs(RETRIES, attempts + 1, this.#ports.randomness));
  }

  get #client(): ProcessServerClient {
    return this.#ports.processServer.client;
  }

  #loseAndThrow(error: unknown): never {
    this.lose(error);
    throw must(this.signal.reason, "reason");
  }

  /** No batch is sent until `ms` after `sinceMs`. */
  #delay(ms: number, sinceMs: number = this.#ports.clock.monotonicMs()): void {
    if (ms <= 0) return;
    const until = sinceMs + Math.min(ms, DELAY_MS_MAX);
    this.#notBeforeMs = Math.max(this.#notBeforeMs, until);
  }

  async #pause(): Promise<void> {
    for (;;) {
      const waitMs = this.#notBeforeMs - this.#ports.clock.monotonicMs();
      if (waitMs <= 0) return this.signal.throwIfAborted();
      await this.#sleep(waitMs);
    }
  }

  #sleep(ms: number): Promise<void> {
    return this.#ports.scheduler.sleep(ms, this.signal);
  }
}

/**
 * The machine has failed over. Any other fence means that another process server had the log meanwhile: a new session claims
 * it again.
 */
function isFailover(error: unknown): boolean {
  if (!hasCode(error, MOBILITY_ERRORS.LOG_FENCED)) return false;
  const { kind }: { kind?: unknown } = error.details;
  return kind === "failover";
}

/** Nobody was there to send to. */
const UNSENT_CODES: ReadonlySet<string | undefined> = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
]);

function isUnsent(error: unknown): boolean {
  return error instanceof OsrError && UNSENT_CODES.has(systemErrorCode(error.cause));
}
