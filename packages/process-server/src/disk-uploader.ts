import { OsrError, messageOf } from "@osr/base/errors";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import { SECOND_MS } from "@osr/base/units";
import { commitSegment } from "@osr/repository/disk-log";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import { headOf } from "@osr/repository/segment-footer";

import { type ClosedSegment, removeSegmentFiles, uploadOf } from "./closed-segment.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import { watched } from "./upload-watch.ts";

/** Uploads are tried again for ever: the spool keeps what was acknowledged. */
const UPLOAD_RETRY: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: SECOND_MS / 4,
  delayMaxMs: 30 * SECOND_MS,
};

/** After these the log of the disk is not ours any more, or the spool is not what was acknowledged. */
const FATAL_CODES: ReadonlySet<string> = new Set([
  REPOSITORY_ERRORS.LOG_FENCED.code,
  REPOSITORY_ERRORS.LOG_TAMPERED.code,
  PROCESS_SERVER_ERRORS.SPOOL_DAMAGED.code,
]);

export type DiskUploaderEvents = {
  /** The segment is in the log at `head`; its files are still there. Must be durable about it when it resolves. */
  vaulted(segment: ClosedSegment, head: Buffer): Promise<void>;
  /** The files of the segment are gone. */
  removed(segment: ClosedSegment): void;
  /** The log or the spool is lost; nothing more is uploaded. */
  lost(error: OsrError): void;
};

/**
 * Uploads the closed segments of one disk, strictly in their order. Write order: the segment is committed; who needs to
 * know is told and durable about it (`vaulted`); only then its files go.
 */
export class DiskUploader {
  readonly #context: RoleContext;
  readonly #keys: SegmentKeys;
  readonly #events: DiskUploaderEvents;
  readonly #queue: ClosedSegment[] = [];
  readonly #stop = new AbortController();
  #previousHead: Buffer;
  #wake = Promise.withResolvers<void>();
  #running: Promise<void>;
  #failure: unknown;

  constructor(
    context: RoleContext,
    keys: SegmentKeys,
    previousHead: Buffer,
    events: DiskUploaderEvents,
  ) {
    this.#context = context;
    this.#keys = keys;
    this.#previousHead = previousHead;
    this.#events = events;
    this.#running = this.#run();
  }

  /** Why the segment at the head of the line did not go up at the last attempt. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Bytes that wait, or are on their way. */
  get pendingBytes(): number {
    return this.#queue.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  add(segment: ClosedSegment): void {
    this.#queue.push(segment);
    this.#wake.resolve();
  }

  /** Ends soon; what is not in the log yet stays in the spool. */
  async stop(): Promise<void> {
    this.#stop.abort(new OsrError(PROCESS_SERVER_ERRORS.STOPPING, "the upload is stopped"));
    this.#wake.resolve();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const segment = this.#queue[0];
      if (segment === undefined) {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
        continue;
      }
      try {
        await this.#upload(segment);
      } catch (error) {
        if (signal.aborted) return;
        this.#failure = error;
        this.#events.lost(error as OsrError);
        return;
      }
      this.#queue.shift();
    }
  }

  async #upload(segment: ClosedSegment): Promise<void> {
    const head = await this.#persistently((signal) =>
      this.#context.uploads.run(() => this.#commit(segment, signal)),
    );
    await this.#persistently(() => this.#events.vaulted(segment, head));
    this.#previousHead = head;
    await this.#persistently(() => removeSegmentFiles(segment.paths));
    this.#events.removed(segment);
  }

  #commit(segment: ClosedSegment, signal: AbortSignal): Promise<Buffer> {
    const { scheduler, clock, store, segmentTarget, metrics } = this.#context;
    return watched(scheduler, signal, async (watch) => {
      const { body, footerBytes } = uploadOf(segment, this.#previousHead, (bytes) => {
        watch.moved();
        metrics.uploadedBytes.inc(bytes);
      });
      const startedMs = clock.monotonicMs();
      const { header } = segment.plan;
      const finished = { header, body, footerBytes, indexRoot: this.#keys.indexRoot };
      await commitSegment(store, this.#keys.log, finished, watch.signal);
      segmentTarget.measured(segment.sizeBytes, clock.monotonicMs() - startedMs);
      return headOf(footerBytes);
    });
  }

  /** Calls `task` until it succeeds. Throws what cannot be mended by waiting, and the reason of a stop. */
  async #persistently<T>(task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { scheduler, randomness, metrics, log } = this.#context;
    const { signal } = this.#stop;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await task(signal);
        this.#failure = undefined;
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof OsrError && FATAL_CODES.has(error.code)) throw error;
        this.#failure = error;
        metrics.uploadErrors.inc();
        const { diskId } = this.#keys.log;
        log.warn("an upload failed and is tried again", {
          diskId,
          attempt,
          error: messageOf(error),
        });
      }
      await scheduler.sleep(retryDelayMs(UPLOAD_RETRY, attempt + 1, randomness), signal);
    }
  }
}
