import { OsrError, messageOf } from "@osr/base/errors";
import { freeBuffer } from "@osr/base/free-buffer";
import { SECOND_MS } from "@osr/base/units";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import { type ClosedSegment, removeSegmentFiles } from "./closed-segment.ts";
import { CONTENT_MAC_KEY_BYTES } from "./content-mac.ts";
import type { EncodedBatch } from "./encode-batch.ts";
import type { JournalEntry } from "./journal-entry.ts";
import { OpenSegment } from "./open-segment.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import { metaCarriedOn } from "./segment-entry.ts";
import type { SegmentPlan } from "./segment-plan.ts";
import { recoverSegment } from "./segment-recovery.ts";
import { spoolError } from "./spool-error.ts";
import { type SegmentPaths, segmentPaths } from "./spool-layout.ts";

const RECOVERY_RETRY_MS = SECOND_MS;

/** A batch on its way to the spool. */
export type Write = {
  /** The segment it belongs to. All writes of one plan follow one another. */
  readonly plan: SegmentPlan;
  readonly entry: Omit<JournalEntry, "framesOffset" | "frames">;
  readonly encoded: Promise<EncodedBatch>;
};

export type StreamWriterEvents = {
  /** The write is durable; called in order. */
  durable(write: Write, encoded: EncodedBatch): void;
  /** A segment takes nothing more. */
  closed(segment: ClosedSegment): void;
  /** A write failed: this one and all after it are void, up to `recovered`. */
  failed(error: OsrError): void;
  /** Writes are taken again; the next segment follows `lastSeq`. */
  recovered(lastSeq: number): void;
};

type Queued = Write & { encodedNow?: EncodedBatch; readonly done: PromiseWithResolvers<void> };

/**
 * Writes the batches of one disk to the spool, in order. Batches that arrive while a sync runs share the next one. A
 * segment is closed when its last batch ended an interval, when a write for the next segment comes, or when asked.
 *
 * When anything fails, every write that is not durable is refused, and the open segment is recovered from its files as
 * after a crash: that is the one way to know what is on the disk.
 */
export class StreamWriter {
  readonly #context: RoleContext;
  readonly #folder: string;
  readonly #events: StreamWriterEvents;
  readonly #stop = new AbortController();
  readonly #queue: Queued[] = [];
  /** `meta` of the last closed segment, or of the log's tip. */
  #meta: SegmentMeta;
  #lastSeq: number;
  #open: OpenSegment | undefined;
  /** The segment that may have files which are neither closed nor removed. */
  #unfinished: { readonly plan: SegmentPlan; readonly paths: SegmentPaths } | undefined;
  #countedBytes = 0;
  #closeAsked = false;
  #failure: OsrError | undefined;
  #running: Promise<void> | undefined;

  constructor(
    context: RoleContext,
    folder: string,
    last: { readonly seq: number; readonly meta: SegmentMeta },
    events: StreamWriterEvents,
  ) {
    this.#context = context;
    this.#folder = folder;
    this.#lastSeq = last.seq;
    this.#meta = metaCarriedOn(last.meta);
    this.#events = events;
  }

  /** Resolves when the batch is durable. Rejects with CACHE_FULL, SPOOL_FAILED, ENCODER_FAILED, STOPPING. */
  write(write: Write): Promise<void> {
    const refused = this.#failure ?? (this.#stop.signal.aborted ? stopping() : undefined);
    if (refused !== undefined) {
      write.encoded.catch(() => undefined);
      return Promise.reject(refused);
    }
    const queued: Queued = { ...write, done: Promise.withResolvers<void>() };
    this.#queue.push(queued);
    // A failure is met when its turn comes.
    write.encoded.then(
      (encoded) => (queued.encodedNow = encoded),
      () => undefined,
    );
    this.#running ??= this.#run();
    return queued.done.promise;
  }

  /** Closes the open segment after the writes so far, so that it can be uploaded before it is large. */
  closeSegment(): void {
    if (this.#failure !== undefined || this.#stop.signal.aborted) return;
    this.#closeAsked = true;
    this.#running ??= this.#run();
  }

  /** Resolves when every write so far has been answered. */
  async drained(): Promise<void> {
    await this.#running;
  }

  /** Takes no more writes, ends those under way, and lets go of the files. */
  async stop(): Promise<void> {
    this.#stop.abort(stopping());
    await this.#running;
    await this.#open?.[Symbol.asyncDispose]();
    this.#open = undefined;
  }

  /** Stops, and removes what is not closed: the log is not ours any more. */
  async discard(): Promise<void> {
    await this.stop();
    if (this.#unfinished !== undefined)
      await removeSegmentFiles(this.#unfinished.paths).catch(() => undefined);
    this.#count(-this.#countedBytes);
    this.#unfinished = undefined;
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0 || this.#closeAsked) {
      try {
        if (this.#queue.length > 0) await this.#writeGroup();
        else {
          this.#closeAsked = false;
          await this.#close();
        }
      } catch (error) {
        await this.#fail(error);
      }
    }
    this.#running = undefined;
  }

  async #writeGroup(): Promise<void> {
    const first = this.#queue[0]!;
    await first.encoded;
    const segment = await this.#segmentFor(first.plan);
    let count = 0;
    let ended = false;
    while (!ended && count < this.#queue.length) {
      const { plan, entry, encodedNow } = this.#queue[count]!;
      if (plan !== first.plan || encodedNow === undefined) break;
      await segment.append(entry, encodedNow);
      this.#count(encodedNow.bytes.length);
      ended = entry.ended;
      count += 1;
    }
    await segment.sync();
    for (const write of this.#queue.splice(0, count)) {
      this.#events.durable(write, write.encodedNow!);
      // Frees the frames now, ahead of the garbage collector: megabytes for every batch.
      freeBuffer(write.encodedNow!.bytes);
      write.done.resolve();
    }
    if (ended) await this.#close();
  }

  async #segmentFor(plan: SegmentPlan): Promise<OpenSegment> {
    if (this.#open?.plan === plan) return this.#open;
    await this.#close();
    const paths = segmentPaths(this.#folder, plan.header);
    this.#unfinished = { plan, paths };
    const macKey = this.#context.randomness.bytes(CONTENT_MAC_KEY_BYTES);
    this.#open = await OpenSegment.create(plan, paths, this.#meta, macKey);
    return this.#open;
  }

  async #close(): Promise<void> {
    const segment = this.#open;
    if (segment === undefined) return;
    const closed = await segment.close();
    this.#open = undefined;
    await segment[Symbol.asyncDispose]();
    this.#finish(closed);
  }

  #finish(closed: ClosedSegment): void {
    this.#count(closed.sizeBytes - this.#countedBytes);
    this.#countedBytes = 0;
    this.#unfinished = undefined;
    this.#lastSeq = closed.plan.header.seq;
    this.#meta = metaCarriedOn(closed.meta);
    this.#events.closed(closed);
  }

  #count(bytes: number): void {
    this.#countedBytes += bytes;
    this.#context.cache.add(bytes);
  }

  async #fail(cause: unknown): Promise<void> {
    const error = spoolError(cause);
    this.#context.log.error("a batch could not be spooled", { error: cause });
    this.#failure = error;
    this.#closeAsked = false;
    this.#events.failed(error);
    for (const { done } of this.#queue.splice(0)) done.reject(error);
    await this.#open?.[Symbol.asyncDispose]().catch(() => undefined);
    this.#open = undefined;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#recover();
        this.#failure = undefined;
        this.#events.recovered(this.#lastSeq);
        return;
      } catch (again) {
        const message = messageOf(again);
        this.#context.log.warn("the spool cannot be recovered yet", { error: message });
        await this.#context.scheduler
          .sleep(RECOVERY_RETRY_MS, this.#stop.signal)
          .catch(() => undefined);
      }
    }
  }

  async #recover(): Promise<void> {
    if (this.#unfinished === undefined) return;
    const { plan, paths } = this.#unfinished;
    const closed = await recoverSegment(paths, plan, this.#meta);
    if (closed !== undefined) {
      this.#finish(closed);
      return;
    }
    await removeSegmentFiles(paths);
    this.#count(-this.#countedBytes);
    this.#unfinished = undefined;
  }
}

function stopping(): OsrError {
  return new OsrError(PROCESS_SERVER_ERRORS.STOPPING, "the process server is stopping");
}
