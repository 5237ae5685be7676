import { assert } from "@osr/base/assert";
import { OsrError, hasCode, isRetryable } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import type { AckedDisk } from "@osr/contracts/agent-protocol";
import { HRL_ERRORS } from "@osr/contracts/hrl-record";
import type { Tag } from "@osr/contracts/tag";
import type { DiskDescriptor } from "@osr/repository/disk-descriptor";
import { type LogTip, readLogTip } from "@osr/repository/log-end";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";

import type { Batch } from "./batch.ts";
import { type BatchPlan, RUN_FIELDS, planBatch } from "./batch-plan.ts";
import { type ClosedSegment, removeSegmentFiles } from "./closed-segment.ts";
import { DiskUploader } from "./disk-uploader.ts";
import type { EncodedBatch } from "./encode-batch.ts";
import { HeldBatches } from "./held-batches.ts";
import { type LastRecord, lastRecordOf, noteLastRecord } from "./last-record.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { LogHead } from "./disk-comparison.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import { RecordSequence } from "./record-sequence.ts";
import type { RoleContext } from "./role-context.ts";
import { SegmentDraft } from "./segment-draft.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import { type Session, epochStale, sessionReplaced } from "./session-table.ts";
import { StreamWriter, type Write } from "./stream-writer.ts";

/** How often a stream whose upload is waited for is looked at. */
const UPLOAD_POLL_MS = 20;

/**
 * - open: takes batches;
 * - refusing: a write failed and its files are being recovered; nothing is taken until then;
 * - lost: another owner has the log, or what was acknowledged is damaged: takes nothing for ever, its spool is dropped. A
 *   new session opens a new stream;
 * - stopped: the process server ends; what is spooled stays.
 *
 * open ⇄ refusing; any → lost; any → stopped.
 */
type State =
  | { readonly mode: "open" }
  | { readonly mode: "refusing" | "lost" | "stopped"; readonly error: OsrError };

export type DiskStreamStart = {
  readonly keys: SegmentKeys;
  readonly folder: string;
  readonly tip: LogTip;
  /** What the spool holds after the tip, in order. */
  readonly segments: readonly ClosedSegment[];
  /** Last record of the tip, where it is known. */
  readonly tipLast: LastRecord | undefined;
  /** The disk and its machine as they were enrolled. */
  readonly descriptor: DiskDescriptor;
  /** Why the log was begun on another timeline just now. */
  readonly tampering: OsrError | undefined;
};

/** The replication stream of one disk, from the batches of its agent to its log in the storage account. */
export class DiskStream {
  readonly keys: SegmentKeys;
  readonly descriptor: DiskDescriptor;
  /** Somebody without the keys wrote into the log while this process server ran; replication goes on nevertheless. */
  readonly tampering: OsrError | undefined;
  readonly #context: RoleContext;
  readonly #points: RecoveryPoints;
  readonly #folder: string;
  readonly #generation: number;
  readonly #held: HeldBatches;
  readonly #writer: StreamWriter;
  readonly #uploader: DiskUploader;
  readonly #spooled = new Set<ClosedSegment>();
  #state: State = { mode: "open" };
  #session: { readonly session: Session; readonly groupId: Uuid } | undefined;
  /** The order of what was taken in, and of that what is durable. */
  #taken: RecordSequence;
  #durable: RecordSequence;
  /** What `#durable` becomes with each write under way. */
  #underWay: RecordSequence[] = [];
  /** Newest durable record, of whichever session; undefined where only the session and interval of it are known. */
  #last: LastRecord | undefined;
  #lastWrite: Promise<void> = Promise.resolve();
  #draft: SegmentDraft | undefined;
  #seqNext: number;
  /** Newest segment that is in the storage account. */
  #head: LogHead;
  #sessionNewest: number;
  #intervalNewest: number;
  #vaultedInterval: number;
  #dropping: Promise<void> = Promise.resolve();
  #counts = { receivedBytes: 0, encodedBytes: 0, uploadedBytes: 0 };

  constructor(context: RoleContext, points: RecoveryPoints, start: DiskStreamStart) {
    const { keys, folder, tip, segments, tipLast } = start;
    this.keys = keys;
    this.descriptor = start.descriptor;
    this.tampering = start.tampering;
    this.#context = context;
    this.#points = points;
    this.#folder = folder;
    this.#generation = tip.generation;
    this.#held = new HeldBatches(context.scheduler);
    const last = segments.at(-1);
    const lastSeq = tip.seq + segments.length;
    const meta = last?.meta ?? tip.meta;
    this.#seqNext = lastSeq + 1;
    this.#head = { seq: tip.seq, head: tip.head };
    this.#sessionNewest = meta.session;
    this.#intervalNewest = meta.interval;
    this.#last = last === undefined ? tipLast : last.last;
    this.#vaultedInterval = tip.meta.intervalEnded;
    this.#taken = this.#durable = new RecordSequence(this.#intervalNewest + 1);
    this.#writer = new StreamWriter(
      context,
      folder,
      { seq: lastSeq, meta },
      {
        durable: (write, encoded) => this.#onDurable(write, encoded),
        closed: (segment) => this.#onClosed(segment),
        failed: (error) => this.#onFailed(error),
        recovered: (seq) => this.#onRecovered(seq),
      },
    );
    this.#uploader = new DiskUploader(context, keys, tip.head, {
      vaulted: (segment, head) => this.#onVaulted(segment, head),
      removed: (segment) => this.#onRemoved(segment),
      lost: (error) => this.#lose(error),
    });
    for (const segment of segments) this.#onClosed(segment);
  }

  get isLost(): boolean {
    return this.#state.mode === "lost";
  }

  /** True where another owner has claimed the log. */
  get isFenced(): boolean {
    return this.isLost && hasCode(this.trouble, REPOSITORY_ERRORS.LOG_FENCED);
  }

  /** Why it takes nothing at the moment, or why its uploads fail. */
  get trouble(): unknown {
    return this.#state.mode === "open" ? this.#uploader.failure : this.#state.error;
  }

  /** What its session has been acknowledged, and what is vaulted over all sessions. */
  get acked(): AckedDisk {
    const { diskId } = this.keys.log;
    const last = this.#last?.session === this.#session?.session.epoch ? this.#last : undefined;
    return {
      diskId,
      spooledInterval: last?.interval ?? -1,
      spooledRecordNo: last?.recordNo ?? -1,
      vaultedInterval: this.#vaultedInterval,
    };
  }

  /** True where anything was ever taken in for the disk, by whichever process server. */
  get hasContent(): boolean {
    return this.#intervalNewest > 0;
  }

  /** Number of the newest segment, be it open, spooled or in the storage account. */
  get lastSeq(): number {
    return this.#seqNext - 1;
  }

  get status(): DiskStatus {
    return {
      diskId: this.keys.log.diskId,
      state: this.#state.mode,
      ...this.#counts,
      pendingUploadBytes: this.#uploader.pendingBytes,
      intervalNewest: this.#intervalNewest,
      intervalVaulted: this.#vaultedInterval,
    };
  }

  /**
   * Looks whether another owner has claimed the log since: then the stream is lost. A storage account that does not answer
   * proves nothing; an upload will find out.
   */
  async checkOwner(signal: AbortSignal): Promise<void> {
    const { log, indexRoot } = this.keys;
    let tip: LogTip | undefined;
    try {
      tip = await readLogTip(this.#context.store, log, indexRoot, signal);
    } catch (error) {
      if (isRetryable(error)) return;
      throw error;
    }
    if (this.isLost || tip === undefined || tip.generation <= this.#generation) return;
    this.#lose(
      new OsrError(
        REPOSITORY_ERRORS.LOG_FENCED,
        `generation ${tip.generation} has the log of disk ${log.diskId}, mine is ${this.#generation}`,
      ),
    );
  }

  /**
   * Hands the stream to a new session. When it resolves, every batch of earlier ones was answered, and none will be taken
   * any more. Throws EPOCH_STALE where the log has records of a newer session, and what the stream is refused with.
   */
  async beginSession(session: Session, groupId: Uuid): Promise<SessionBegin> {
    await this.#handTo(session, groupId);
    if (session.epoch <= this.#sessionNewest) throw epochStale(session.epoch, this.#sessionNewest);
    this.#taken = this.#durable = new RecordSequence(this.#intervalNewest + 1);
    return { nextInterval: this.#intervalNewest + 1, last: this.#last };
  }

  /**
   * Goes on with a session that was granted before the process server was started. Throws SESSION_REPLACED where the log
   * has records of a newer session, or it is not known how many of this one.
   */
  async resumeSession(session: Session, groupId: Uuid): Promise<SessionBegin> {
    await this.#handTo(session, groupId);
    const last = this.#last?.session === session.epoch ? this.#last : undefined;
    const isKnown = last !== undefined || this.#sessionNewest < session.epoch;
    if (!isKnown) throw sessionReplaced(session.epoch);
    this.#taken = this.#durable =
      last === undefined
        ? new RecordSequence(this.#intervalNewest + 1)
        : RecordSequence.after(last);
    return { nextInterval: this.#intervalNewest + 1, last: this.#last };
  }

  async #handTo(session: Session, groupId: Uuid): Promise<void> {
    this.#session = { session, groupId };
    this.#held.refuse(sessionReplaced(session.epoch - 1));
    this.#checkOpen();
    await this.#writer.drained();
    session.signal.throwIfAborted();
    this.#checkOpen();
  }

  /**
   * Takes a batch in; `body` is given away. Resolves when all of it is durable, be it from this call or an earlier one.
   * Throws SESSION_REPLACED, RECORDS_OUT_OF_ORDER, HRL_INVALID, CACHE_FULL, SPOOL_FAILED, LOG_FENCED, STOPPING.
   */
  async submit(session: Session, body: Buffer, batch: Batch): Promise<void> {
    for (;;) {
      session.signal.throwIfAborted();
      if (this.#session?.session !== session) throw sessionReplaced(session.epoch);
      this.#checkOpen();
      const verdict = this.#taken.classify(batch);
      if (verdict.kind === "take") return this.#take(body, batch, verdict.skip);
      if (verdict.kind === "known") {
        this.#context.metrics.knownBatches.inc();
        return this.#lastWrite;
      }
      if (this.#held.isFull) throw this.#taken.outOfOrder();
      await this.#held.wait(() => this.#taken.outOfOrder());
    }
  }

  /**
   * Lets the segment that is being filled go up as it is. Where the cache is full nothing else might ever make room: no
   * batch can end an interval or fill the segment any more.
   */
  closeSegment(): void {
    this.#draft = undefined;
    this.#writer.closeSegment();
  }

  /**
   * Closes what is open, waits until all that was taken in is in the storage account, and says where the log ends then.
   * Throws LOG_FENCED, STOPPING and what else the stream is refused with, or the signal's reason.
   */
  async uploadAll(signal: AbortSignal): Promise<LogHead> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#state.mode !== "refusing") this.#checkOpen();
      if (this.#state.mode === "open" && this.#head.seq === this.lastSeq) return this.#head;
      this.closeSegment();
      await this.#context.scheduler.sleep(UPLOAD_POLL_MS, signal);
    }
  }

  /** Refuses batches that wait for others, to free their memory. */
  refuseHeld(): void {
    this.#held.refuse(this.#taken.outOfOrder());
  }

  async stop(): Promise<void> {
    const error = stopping();
    this.#setState({ mode: "stopped", error });
    this.#held.refuse(error);
    await Promise.all([this.#dropping, this.#writer.stop(), this.#uploader.stop()]);
  }

  #take(body: Buffer, batch: Batch, skip: number): Promise<void> {
    const after = this.#taken.copy();
    const { ended, tag } = after.take(batch, skip);
    if (tag !== undefined) this.#checkTag(tag);
    this.#counts.receivedBytes += body.length;
    const plan = planBatch(body, batch.records.slice(skip));
    const draft = this.#draftFor(plan, body.length);
    const frameNoFirst = draft.add(plan, body.length);
    const encoded = this.#encode(draft, { body, plan, frameNoFirst });
    const { session, interval, lastRecordNo } = batch;
    const write = this.#writer.write({
      plan: draft.plan,
      entry: {
        session,
        interval,
        firstRecordNo: batch.firstRecordNo + skip,
        lastRecordNo,
        ended,
        runs: blocksOfRuns(plan),
        zeroRuns: plan.zeroRuns,
        ...(tag === undefined ? {} : { tag }),
      },
      encoded,
    });
    this.#taken = after;
    this.#underWay.push(after);
    this.#lastWrite = write;
    this.#intervalNewest = interval;
    this.#sessionNewest = session;
    if (ended) this.#draft = undefined;
    if (tag !== undefined) this.#points.noteSlot(tag.groupId, tag.slot);
    this.#held.wake();
    return write;
  }

  #checkOpen(): void {
    if (this.#state.mode === "open") return;
    const { error } = this.#state;
    // What the spool lost is still dirty for the agent: a new session sends it again, and finds where a log goes on that was
    // tampered with.
    if (
      hasCode(error, PROCESS_SERVER_ERRORS.SPOOL_DAMAGED) ||
      hasCode(error, REPOSITORY_ERRORS.LOG_TAMPERED)
    )
      throw sessionReplaced(this.#session?.session.epoch ?? 0);
    throw error;
  }

  #checkTag(tag: Tag): void {
    const { diskId } = this.keys.log;
    const sorted = tag.disks.every((disk, index) => index === 0 || disk > tag.disks[index - 1]!);
    if (tag.groupId !== this.#session?.groupId || !sorted || !tag.disks.includes(diskId))
      throw new OsrError(
        HRL_ERRORS.HRL_INVALID,
        `the tag of slot ${tag.slot} is not one of this disk and its replication group`,
      );
  }

  #draftFor(plan: BatchPlan, bodyBytes: number): SegmentDraft {
    const limits = {
      bytes: this.#context.segmentTarget.bytes,
      runs: this.#context.segmentRunsMax(),
    };
    if (this.#draft?.fits(plan, bodyBytes, limits) !== true) {
      const place = { seq: this.#seqNext, generation: this.#generation };
      this.#draft = new SegmentDraft(this.#context, this.keys, place);
      this.#seqNext += 1;
    }
    return this.#draft;
  }

  async #encode(
    draft: SegmentDraft,
    job: { readonly body: Buffer; readonly plan: BatchPlan; readonly frameNoFirst: number },
  ): Promise<EncodedBatch> {
    if (job.plan.frameRuns.length === 0) return nothingEncoded();
    const bodyBytes = job.body.length;
    const { frameKey, origin } = draft.plan;
    const body = job.body as Uint8Array<ArrayBuffer>;
    const encoded = await this.#context.encoder.encode({ ...job, body, frameKey, origin });
    draft.encoded(bodyBytes, encoded);
    return encoded;
  }

  #onDurable({ entry }: Write, encoded: EncodedBatch): void {
    this.#durable = this.#underWay.shift() ?? this.#durable;
    this.#counts.encodedBytes += encoded.bytes.length;
    const { metrics } = this.#context;
    metrics.batches.inc();
    metrics.encodedBytes.inc(encoded.bytes.length);
    metrics.encoderSeconds.inc(encoded.cpuUs / 1_000_000);
    this.#last = lastRecordOf(entry);
  }

  #onClosed(segment: ClosedSegment): void {
    this.#spooled.add(segment);
    const { tag } = segment.meta;
    if (tag !== undefined) this.#points.noteSlot(tag.groupId, tag.slot);
    this.#uploader.add(segment);
  }

  #onFailed(refusal: OsrError): void {
    if (this.#state.mode === "open") this.#setState({ mode: "refusing", error: refusal });
    this.#taken = this.#durable;
    this.#underWay = [];
    this.#lastWrite = Promise.resolve();
    this.#draft = undefined;
    this.#held.refuse(refusal);
  }

  #onRecovered(lastSeq: number): void {
    this.#seqNext = lastSeq + 1;
    if (this.#state.mode === "refusing") this.#setState({ mode: "open" });
  }

  async #onVaulted(segment: ClosedSegment, head: Buffer): Promise<void> {
    const { meta, plan, last } = segment;
    const { diskId, timeline, seq } = plan.header;
    if (meta.tag !== undefined)
      await this.#points.vaulted(meta.tag, { diskId, timeline, seq, head });
    await noteLastRecord(this.#folder, seq, last, this.#context.log);
    this.#head = { seq, head };
    this.#vaultedInterval = meta.intervalEnded;
    this.#counts.uploadedBytes += segment.sizeBytes;
  }

  #onRemoved(segment: ClosedSegment): void {
    this.#spooled.delete(segment);
    this.#context.cache.add(-segment.sizeBytes);
  }

  #lose(error: OsrError): void {
    const { diskId } = this.keys.log;
    this.#context.log.error("the log of a disk is lost to this process server", { diskId, error });
    if (this.#state.mode !== "stopped") this.#setState({ mode: "lost", error });
    this.#held.refuse(error);
    this.#dropping = this.#dropSpool();
  }

  async #dropSpool(): Promise<void> {
    await this.#writer.discard();
    for (const segment of this.#spooled) {
      await removeSegmentFiles(segment.paths).catch(() => undefined);
      this.#onRemoved(segment);
    }
  }

  #setState(state: State): void {
    const from = this.#state.mode;
    assert(from !== "stopped" || state.mode === "stopped", `stopped never becomes ${state.mode}`);
    assert(from !== "lost" || state.mode !== "open", "lost never becomes open");
    this.#state = state;
  }
}

export type SessionBegin = {
  /** First interval that the session may use. */
  readonly nextInterval: number;
  /** Newest record that is durable. */
  readonly last: LastRecord | undefined;
};

/** For people and for `osr up`. */
export type DiskStatus = {
  readonly diskId: Uuid;
  readonly state: State["mode"];
  /** Bodies of batches. */
  readonly receivedBytes: number;
  readonly encodedBytes: number;
  readonly uploadedBytes: number;
  readonly pendingUploadBytes: number;
  /** Highest interval of which something was taken in. */
  readonly intervalNewest: number;
  readonly intervalVaulted: number;
};

/** Of a batch without content. */
function nothingEncoded(): EncodedBatch {
  return { bytes: new Uint8Array(0), frames: new Uint32Array(0), cpuUs: 0 };
}

/** Block and count of each run, without its place in the body. */
function blocksOfRuns({ runs }: BatchPlan): Uint32Array {
  const pairs = new Uint32Array((runs.length / RUN_FIELDS) * 2);
  for (let run = 0, pair = 0; run < runs.length; run += RUN_FIELDS, pair += 2) {
    pairs[pair] = runs[run]!;
    pairs[pair + 1] = runs[run + 1]!;
  }
  return pairs;
}

function stopping(): OsrError {
  return new OsrError(PROCESS_SERVER_ERRORS.STOPPING, "the process server is stopping");
}
