import { assert, must } from "@osr/base/assert";
import { BLOCK_BYTES, blocksOf } from "@osr/base/block-range";
import type { Clock } from "@osr/base/clock";
import { OsrError, hasCode } from "@osr/base/errors";
import { MIB, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { DirectReader, ProtectableDisk } from "@osr/block-device/protected-disk";
import type {
  AckedDisk,
  BatchReply,
  DiskHistory,
  GrantedDisk,
  RecordName,
} from "@osr/contracts/agent-protocol";
import type { Tag } from "@osr/contracts/tag";

import { allDone } from "./all-done.ts";
import { type BatchBuffers, type BatchMemory, READ_BLOCKS } from "./batch-memory.ts";
import { BatchWriter, type StreamPosition, type WrittenBatch } from "./batch-writer.ts";
import type { DirtyMemory } from "./dirty-memory.ts";
import { type ComparisonSession, DiskComparison } from "./disk-comparison.ts";
import { DiskDirtyState } from "./disk-dirty-state.ts";
import type { KeptDisk } from "./kept-disk.ts";
import type { KeptRuns } from "./kept-runs.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { Pace } from "./pace.ts";
import type { Remainder } from "./remainder.ts";
import type { ResyncProgress, ResyncReason } from "./resync-reason.ts";
import { SendWindow } from "./send-window.ts";
import { maskSwap } from "./swap-mask.ts";

/** An interval ends after so long at the latest. */
const INTERVAL_MS_MAX = 30 * SECOND_MS;
/** Blocks looked at for one batch: a batch of nothing but zeros ends here. */
const BATCH_SCAN_BLOCKS_MAX = (64 * MIB) / BLOCK_BYTES;
const BLOCK_SECTORS = BLOCK_BYTES / 512;

/** The session that a disk's records go to. */
export interface BatchSender {
  readonly epoch: number;
  /** Aborted when the session is lost or the service stops. */
  readonly signal: AbortSignal;
  /**
   * Sends a batch until it is spooled. Rejects only when it never can be: session lost, log fenced, service stopped.
   */
  send(diskId: Uuid, batch: WrittenBatch): Promise<SentBatch>;
}
export type SentBatch = {
  readonly reply: BatchReply;
  readonly attempts: number;
  /** Times that it went out, in whole or in part: an attempt that found nobody does not count. */
  readonly sends: number;
};

export type DiskReplicationOptions = {
  readonly disk: ProtectableDisk;
  readonly reader: DirectReader;
  readonly dirtyMemory: DirtyMemory;
  readonly batchMemory: BatchMemory;
  /** See ReplicationLimits. */
  readonly intervalBytesMax: number;
  readonly clock: Clock;
  readonly pace: Pace;
  /** Why this agent knows nothing of a disk whose log holds content. */
  readonly startReason: ResyncReason;
  /** What outlives this process. */
  readonly kept: KeptDisk;
  /** True where `kept` is what an earlier process knew, and nothing was missed since. */
  readonly isResumed: boolean;
};

type Stream = {
  readonly sender: BatchSender & ComparisonSession;
  readonly diskId: Uuid;
  readonly window: SendWindow;
  readonly position: StreamPosition;
  nextInterval: number;
  /** Of the interval that is being written. */
  open?: { readonly startedMs: number; bytes: number };
};

/**
 * - initial: all that was not copied yet is dirty;
 * - resync: what is dirty is not known, the disk is being compared with its log, and nothing of it is sent;
 * - delta: what differs from the log is dirty.
 */
export type ReplicationStage = "initial" | "resync" | "delta";

/**
 * Replicates one disk. A disk whose log is empty is all dirty, so that initial replication is the first round of the one
 * path: take dirty runs for the interval, read them, write them as records, send. Its methods but `changed`, `distrust` and
 * `acked` are called one at a time (see Turn).
 */
export class DiskReplication {
  readonly disk: ProtectableDisk;
  readonly state: DiskDirtyState;
  readonly #options: DiskReplicationOptions;
  readonly #runStarts = new Uint32Array(READ_BLOCKS);
  readonly #runCounts = new Uint16Array(READ_BLOCKS);
  /** 1 where a run could not be read. */
  readonly #runFailed = new Uint8Array(READ_BLOCKS);
  #cursor = 0;
  #stream: Stream | undefined;
  #stage: "initial" | "delta" = "initial";
  /** False until the first session says whether the log holds content. */
  #isKnown: boolean;
  readonly #kept: KeptDisk;
  readonly #comparison: DiskComparison;
  /** Present while the disk is compared; what was compared before `isVoid` does not count. */
  #resync: { readonly reason: ResyncReason; isVoid: boolean } | undefined;
  #lastResync: ResyncProgress | undefined;
  #unreadable: OsrError | undefined;
  #fenced: OsrError | undefined;
  #readBytes = 0;
  #sentBytes = 0;
  #repeatedBytes = 0;

  constructor(options: DiskReplicationOptions) {
    const { disk, dirtyMemory, kept, isResumed } = options;
    this.#options = options;
    this.disk = disk;
    this.#kept = kept;
    const blockCount = blocksOf(disk.sizeBytes);
    const { stage } = kept;
    const adopted =
      isResumed && stage !== undefined
        ? DiskDirtyState.adopt(blockCount, dirtyMemory, kept)
        : undefined;
    this.state = adopted ?? DiskDirtyState.begin(blockCount, dirtyMemory, kept);
    this.#isKnown = adopted !== undefined;
    if (adopted !== undefined && stage?.kind === "resync") this.distrust(stage.reason);
    if (adopted !== undefined && stage?.kind === "delta") this.#stage = "delta";
    this.#comparison = new DiskComparison({ ...options, live: this.state.live });
  }

  get stage(): ReplicationStage {
    return this.#resync === undefined ? this.#stage : "resync";
  }

  /** Of the comparison that is under way. */
  get resync(): ResyncProgress | undefined {
    return this.#resync === undefined ? undefined : this.#progressOf(this.#resync.reason);
  }

  /** Of the last comparison that came to its end. */
  get lastResync(): ResyncProgress | undefined {
    return this.#lastResync;
  }

  /** Why part of the disk cannot be read at the moment. */
  get unreadable(): OsrError | undefined {
    return this.#unreadable;
  }

  /** Present once another owner has the disk's log: nothing of it is sent any more. */
  get fenced(): OsrError | undefined {
    return this.#fenced;
  }

  get readBytes(): number {
    return this.#readBytes;
  }

  /** Bytes of batches that are spooled. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Bytes that may have been sent more than once although they had not changed. */
  get sentAgainBytes(): number {
    return this.#repeatedBytes + this.state.returnedBlocks * BLOCK_BYTES;
  }

  get dirtyBytes(): number {
    return this.state.live.blocks * BLOCK_BYTES;
  }

  get diskId(): Uuid {
    return this.#granted().diskId;
  }

  /** Its id, while there is a session that says it. */
  get diskIdNow(): Uuid | undefined {
    return this.#stream?.diskId;
  }

  /** Takes down a change; 512-byte sectors of the whole disk. Allocates a page of a bitmap at most. */
  changed(sector: number, sectorCount: number): void {
    const first = Math.floor(sector / BLOCK_SECTORS);
    const end = Math.ceil((sector + sectorCount) / BLOCK_SECTORS);
    this.state.live.add(first, end - first);
  }

  /** The same for blocks, see ChangeSink. */
  changedBlocks(firstBlock: number, bits: number): void {
    this.state.live.addBits(firstBlock, bits);
  }

  /**
   * Changes may be unknown: the disk is compared before anything more of it is sent. Synchronous, and safe at any time: who
   * copies meanwhile finishes its round, and no tag is put.
   */
  distrust(reason: ResyncReason): void {
    this.#kept.setStage({ kind: "resync", reason });
    this.#resync = { reason, isVoid: true };
  }

  /**
   * Compares a part of the disk with its log, while it is in resync; true where the next part may follow at once. Rejects as
   * BatchSender.send does.
   */
  async resyncStep(): Promise<boolean> {
    const stream = this.#granted();
    const resync = must(this.#resync, "the disk is in resync");
    if (resync.isVoid) {
      if (stream.open !== undefined) await this.endInterval();
      // All that is dirty or unproven is found again by its content, since nothing has been compared yet.
      this.state.clear();
      this.#comparison.restart();
      // Whoever distrusted the disk since then did so before anything is read.
      must(this.#resync, "resync").isVoid = false;
    }
    try {
      const isVoid = (): boolean => this.#resync?.isVoid !== false;
      const step = await this.#comparison.step(stream.sender, stream.diskId, isVoid);
      if (isVoid()) return false;
      if (step === "through" || step === "failed") this.#endResync(step);
      return step !== "wait";
    } catch (error) {
      if (hasCode(error, MOBILITY_ERRORS.LOG_FENCED)) this.#fenced = error;
      throw error;
    }
  }

  #endResync(how: "through" | "failed"): void {
    const { reason } = must(this.#resync, "resync");
    if (how === "failed") this.state.live.addAll();
    this.#setStage(how === "failed" ? "initial" : "delta");
    this.#lastResync = this.#progressOf(reason);
    this.#resync = undefined;
  }

  #setStage(stage: "initial" | "delta"): void {
    this.#stage = stage;
    this.#kept.setStage({ kind: stage });
  }

  #progressOf(reason: ResyncReason): ResyncProgress {
    const { comparedBytes, differingBytes } = this.#comparison;
    // Until the comparison begins anew, that of the last one stands.
    const isVoid = this.#resync?.isVoid === true;
    return {
      reason,
      comparedBytes: isVoid ? 0 : comparedBytes,
      differingBytes: isVoid ? 0 : differingBytes,
    };
  }

  /**
   * Continues in a new session. Where the process server still has all that it acknowledged, what is spooled is not sent
   * again. Else all that is not vaulted is: interval numbers of the last session say nothing beyond this moment then, since
   * another process server may not know of them.
   */
  attach(sender: BatchSender & ComparisonSession, granted: GrantedDisk): void {
    const kept = this.#kept;
    // Another log, as after enrolling anew.
    const isOther = kept.diskId !== undefined && kept.diskId !== granted.diskId;
    if (!this.#isKnown || isOther || granted.history === undefined) this.#begin(granted.history);
    // What was forgotten then would be missing now.
    else if (granted.vaultedInterval < kept.vaultedInterval) this.distrust("LOG_REWOUND");
    kept.diskId = granted.diskId;
    kept.vaultedInterval = granted.vaultedInterval;
    this.state.vaulted(Math.min(granted.vaultedInterval, kept.endedInterval));
    if (!isCovered(kept.acked, granted.last)) {
      this.state.returnAll();
      kept.endedInterval = 0;
      kept.acked = { session: sender.epoch, interval: 0, recordNo: 0 };
    }
    this.#stream = {
      sender,
      diskId: granted.diskId,
      window: new SendWindow(),
      position: { session: sender.epoch, interval: 0, recordNo: 0 },
      // Of an interval that was begun, the process server may have nothing.
      nextInterval: Math.max(granted.nextInterval, this.state.newestInterval + 1),
    };
  }

  /** Waits for what is under way of a session that was lost; nothing of it is taken in afterwards. */
  async detach(): Promise<void> {
    await this.#stream?.window.settled().catch(() => undefined);
    this.#stream = undefined;
  }

  /** The disk was given up: frees its bitmaps. It is attached to no session any more. */
  dispose(): void {
    this.state.dispose();
  }

  /** What the process server says of the disk in this session. */
  acked(ack: AckedDisk): void {
    const kept = this.#kept;
    // Before anything is forgotten for it.
    kept.vaultedInterval = Math.max(kept.vaultedInterval, ack.vaultedInterval);
    this.state.vaulted(Math.min(ack.vaultedInterval, kept.endedInterval));
  }

  /** Makes those of the runs that are of this disk dirty again: they were taken, and nobody has acknowledged them. */
  returnRuns(runs: KeptRuns): void {
    let isMine = false;
    runs.forEach((slot, start, count) => {
      if (slot !== this.#kept.slot) return;
      isMine = true;
      this.state.returnRun(start, count);
    });
    if (isMine) this.#repeatedBytes += runs.bytes;
  }

  /**
   * Copies what is dirty, from the disk's start to its end once, and waits until it is spooled. What cannot be read stays
   * dirty (`unreadable`). Rejects as BatchSender.send does; then the disk must be attached anew.
   */
  async copyRound(): Promise<void> {
    const stream = this.#granted();
    this.#cursor = 0;
    let unreadable: OsrError | undefined;
    for (;;) {
      if (this.#isIntervalFull(stream)) await this.endInterval();
      await stream.window.room();
      const buffers = await this.#options.batchMemory.take(stream.sender.signal);
      let batch: WrittenBatch | undefined;
      try {
        this.#unreadable = undefined;
        batch = await this.#fill(stream, buffers);
        unreadable ??= this.#unreadable;
      } finally {
        // What was taken and could not be written is dirty.
        if (batch === undefined) this.#giveUp(buffers);
      }
      if (batch === undefined) break;
      this.#start(stream, batch, buffers);
    }
    await stream.window.settled();
    this.#unreadable = unreadable;
    if (unreadable === undefined && this.#stage !== "delta") this.#setStage("delta");
  }

  /** Opens the next interval unless one is open. */
  openInterval(): void {
    const stream = this.#granted();
    if (stream.open !== undefined) return;
    stream.position.interval = stream.nextInterval;
    stream.position.recordNo = 0;
    stream.nextInterval += 1;
    this.state.begin(stream.position.interval);
    stream.open = { startedMs: this.#options.clock.monotonicMs(), bytes: 0 };
  }

  /** Ends the open interval, with a tag where it is a recovery point's, and waits until all of it is spooled. */
  async endInterval(tag?: Tag): Promise<void> {
    const stream = this.#granted();
    this.openInterval();
    const buffers = await this.#options.batchMemory.take(stream.sender.signal);
    const writer = new BatchWriter(buffers.body, stream.position);
    if (tag !== undefined) writer.mark(tag);
    writer.end();
    this.#start(stream, writer.finish(), buffers);
    await stream.window.settled();
    delete stream.open;
    this.#kept.endedInterval = stream.position.interval;
  }

  /** Ends an interval that has been open for long. */
  async endOldInterval(): Promise<void> {
    if (this.#isIntervalFull(this.#granted())) await this.endInterval();
  }

  /**
   * Reads all that is dirty into `remainder`, synchronously: runs while the machine is frozen. False where there is no room
   * for all. Throws DISK_UNREADABLE; that run stays dirty. An interval is open.
   */
  readRemainder(remainder: Remainder, diskIndex: number): boolean {
    for (let at = 0; this.state.live.blocks > 0;) {
      const countMax = Math.min(READ_BLOCKS, remainder.roomBlocks);
      const count = this.state.take(at, countMax, remainder.unsent);
      if (count === 0) return false;
      const start = this.state.runStart;
      const from = remainder.blocks * BLOCK_BYTES;
      const target = remainder.memory.subarray(from, from + count * BLOCK_BYTES);
      try {
        this.#options.reader.readSync(start * BLOCK_BYTES, target);
      } catch (error) {
        this.state.live.add(start, count);
        throw error;
      }
      maskSwap(this.disk.swapRanges, start, count, remainder.memory, from);
      remainder.push(diskIndex, start, count);
      at = start + count;
    }
    return true;
  }

  /** Sends what `readRemainder` read of this disk, and waits until it is spooled. */
  async sendRemainder(remainder: Remainder, diskIndex: number): Promise<void> {
    const stream = this.#granted();
    for (let run = 0, at = 0, sent = 0; run < remainder.runs;) {
      await stream.window.room();
      const buffers = await this.#options.batchMemory.take(stream.sender.signal);
      const writer = new BatchWriter(buffers.body, stream.position);
      for (; run < remainder.runs; run++) {
        const count = must(remainder.counts[run], "count");
        if (remainder.disks[run] === diskIndex) {
          const piece = Math.min(count - sent, writer.roomBlocks);
          const start = must(remainder.starts[run], "start") + sent;
          buffers.runs.add(this.#kept.slot, start, piece);
          writer.blocks(start, piece, remainder.memory, at + sent);
          this.#readBytes += piece * BLOCK_BYTES;
          sent += piece;
          // The batch is full; the run goes on in the next one.
          if (sent < count) break;
        }
        sent = 0;
        at += count;
      }
      if (writer.isEmpty) this.#giveUp(buffers);
      else this.#start(stream, writer.finish(), buffers);
    }
    await stream.window.settled();
  }

  #begin(history: DiskHistory | undefined): void {
    this.#isKnown = true;
    this.#resync = undefined;
    this.state.returnAll();
    this.state.live.addAll();
    this.#setStage("initial");
    if (history === undefined) return;
    const isResized = history.sizeBytes !== this.disk.sizeBytes;
    this.distrust(isResized ? "DISK_RESIZED" : this.#options.startReason);
  }

  async #fill(stream: Stream, buffers: BatchBuffers): Promise<WrittenBatch | undefined> {
    if (this.state.live.blocks === 0) return undefined;
    this.openInterval();
    const writer = new BatchWriter(buffers.body, stream.position);
    for (let scanned = 0; scanned < BATCH_SCAN_BLOCKS_MAX;) {
      const runs = this.#takeRuns(Math.min(READ_BLOCKS, writer.roomBlocks), buffers.runs);
      if (runs === 0) break;
      await this.#readRuns(runs, buffers.read);
      scanned += this.#writeRuns(runs, writer, buffers);
    }
    return writer.isEmpty ? undefined : writer.finish();
  }

  /** Moves runs of at most `blocksMax` blocks in all into the interval; returns how many runs. */
  #takeRuns(blocksMax: number, taken: KeptRuns): number {
    let runs = 0;
    for (let blocks = 0; blocks < blocksMax; runs++) {
      const count = this.state.take(this.#cursor, blocksMax - blocks, taken);
      if (count === 0) break;
      this.#runStarts[runs] = this.state.runStart;
      this.#runCounts[runs] = count;
      this.#runFailed[runs] = 0;
      this.#cursor = this.state.runStart + count;
      blocks += count;
    }
    return runs;
  }

  async #readRuns(runs: number, memory: Buffer): Promise<void> {
    const reads: Promise<void>[] = [];
    for (let run = 0, at = 0; run < runs; run++) {
      const bytes = must(this.#runCounts[run], "count") * BLOCK_BYTES;
      reads.push(this.#readRun(run, memory.subarray(at, at + bytes)));
      at += bytes;
    }
    // All of them, even where one fails: their memory is used again afterwards.
    await allDone(reads);
  }

  async #readRun(run: number, target: Buffer): Promise<void> {
    const start = must(this.#runStarts[run], "start");
    try {
      await this.#options.reader.read(start * BLOCK_BYTES, target);
      maskSwap(this.disk.swapRanges, start, target.length / BLOCK_BYTES, target, 0);
      this.#readBytes += target.length;
    } catch (error) {
      if (!hasCode(error, MOBILITY_ERRORS.DISK_UNREADABLE)) throw error;
      // Dirty again, and behind the cursor: the next round tries it.
      this.state.live.add(start, target.length / BLOCK_BYTES);
      this.#unreadable = error;
      this.#runFailed[run] = 1;
    }
  }

  #writeRuns(runs: number, writer: BatchWriter, buffers: BatchBuffers): number {
    let at = 0;
    for (let run = 0; run < runs; run++) {
      const start = must(this.#runStarts[run], "start");
      const count = must(this.#runCounts[run], "count");
      if (this.#runFailed[run] === 0) writer.blocks(start, count, buffers.read, at);
      at += count;
    }
    return at;
  }

  #start(stream: Stream, batch: WrittenBatch, buffers: BatchBuffers): void {
    must(stream.open, "an interval is open").bytes += batch.body.length;
    buffers.runs.bytes = batch.body.length;
    stream.window.start(this.#send(stream, batch, buffers));
  }

  async #send(
    stream: Stream,
    batch: WrittenBatch,
    buffers: BatchBuffers,
  ): Promise<{ delayMs: number; attempts: number }> {
    try {
      const { reply, attempts, sends } = await stream.sender.send(stream.diskId, batch);
      this.#sentBytes += batch.body.length;
      this.#repeatedBytes += (sends - 1) * batch.body.length;
      // First where the stream is, then that nothing of the batch needs to be sent again.
      this.#noteAcked(stream, batch);
      buffers.runs.clear();
      this.acked(reply);
      return { delayMs: reply.delayMs, attempts };
    } catch (error) {
      if (hasCode(error, MOBILITY_ERRORS.LOG_FENCED)) this.#fenced = error;
      throw error;
    } finally {
      this.#giveUp(buffers);
    }
  }

  /** Batches are answered in any order, but one is only after all those before it were spooled. */
  #noteAcked({ position }: Stream, { interval, lastRecordNo: recordNo }: WrittenBatch): void {
    const record = { session: position.session, interval, recordNo };
    if (!isCovered(record, this.#kept.acked)) this.#kept.acked = record;
  }

  /** Gives the memory of a batch back; what of it was not acknowledged is dirty again. */
  #giveUp(buffers: BatchBuffers): void {
    this.returnRuns(buffers.runs);
    buffers.runs.clear();
    this.#options.batchMemory.give(buffers);
  }

  #isIntervalFull(stream: Stream): boolean {
    if (stream.open === undefined || stream.position.recordNo === 0) return false;
    const ageMs = this.#options.clock.monotonicMs() - stream.open.startedMs;
    return stream.open.bytes >= this.#options.intervalBytesMax || ageMs >= INTERVAL_MS_MAX;
  }

  #granted(): Stream {
    assert(this.#stream !== undefined, "the disk is attached to a session");
    return this.#stream;
  }
}

/**
 * True where `last` is `record` or a later one. A later session counts, since one whose process server had not all that was
 * acknowledged before it begins with an acknowledged record of its own.
 */
function isCovered(record: RecordName, last: RecordName | undefined): boolean {
  if (last === undefined) return false;
  if (last.session !== record.session) return last.session > record.session;
  if (last.interval !== record.interval) return last.interval > record.interval;
  return last.recordNo >= record.recordNo;
}
