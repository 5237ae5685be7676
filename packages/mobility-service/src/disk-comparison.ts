import { must } from "@osr/base/assert";
import { BLOCK_BYTES, blocksOf } from "@osr/base/block-range";
import { hasCode } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import { blockStretch } from "@osr/base/zero";
import type { DirectReader, ProtectableDisk } from "@osr/block-device/protected-disk";
import type {
  ComparisonReply,
  GranuleOfComparison,
  GranulesOfComparison,
} from "@osr/contracts/agent-protocol";
import {
  COMPARISON_HASH_BYTES,
  ComparisonHasher,
  GRANULES_PER_REQUEST_MAX,
  GRANULE_BLOCKS,
  GRANULE_BYTES,
  granulesOf,
} from "@osr/contracts/disk-comparison";

import type { BatchBuffers, BatchMemory } from "./batch-memory.ts";
import type { DirtySet } from "./dirty-set.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { Pace } from "./pace.ts";
import { maskSwap } from "./swap-mask.ts";

/**
 * The session that a comparison runs in. Its calls are tried again until they are answered; they reject with
 * COMPARISON_GONE, COMPARISON_FAILED and LOG_FENCED, or because the session is lost.
 */
export interface ComparisonSession {
  readonly epoch: number;
  readonly signal: AbortSignal;
  openComparison(diskId: Uuid): Promise<ComparisonReply>;
  granuleHashes(diskId: Uuid, at: GranulesOfComparison): Promise<Buffer>;
  blockHashes(diskId: Uuid, at: GranuleOfComparison): Promise<Buffer>;
}

export type DiskComparisonParts = {
  readonly disk: ProtectableDisk;
  readonly reader: DirectReader;
  readonly batchMemory: BatchMemory;
  /** Takes what differs. */
  readonly live: DirtySet;
  readonly pace: Pace;
};

/**
 * - more: call again;
 * - wait: call again a little later;
 * - through: what is not in the live set is as the log has it;
 * - failed: the log cannot be read.
 */
export type ComparisonStep = "more" | "wait" | "through" | "failed";

type Head = {
  readonly headSeq: number;
  readonly key: string;
  readonly hasher: ComparisonHasher;
};

/**
 * Compares a disk that is tracked with a fixed head of its log, by hashes of 1 MiB and, where they differ, of 4 KiB. What
 * differs becomes dirty; what changes meanwhile is marked by the tracker. The law: a granule that was compared is as the
 * log has it but for the live set, as long as nothing else is sent and no event is lost. A lost session costs nothing where
 * the next one finds the same head.
 */
export class DiskComparison {
  readonly #parts: DiskComparisonParts;
  readonly #granules: number;
  #cursor = 0;
  #differingBlocks = 0;
  #head: Head | undefined;
  /** The session that has `#head` open. */
  #session: ComparisonSession | undefined;

  constructor(parts: DiskComparisonParts) {
    this.#parts = parts;
    this.#granules = granulesOf(parts.disk.sizeBytes);
  }

  get comparedBytes(): number {
    return Math.min(this.#cursor * GRANULE_BYTES, this.#parts.disk.sizeBytes);
  }

  get differingBytes(): number {
    return this.#differingBlocks * BLOCK_BYTES;
  }

  /** Begins again: nothing of what was compared counts any more. */
  restart(): void {
    this.#cursor = 0;
    this.#differingBlocks = 0;
    this.#head = undefined;
    this.#session = undefined;
  }

  /**
   * Compares what one request brings. `isVoid` says that changes were missed meanwhile: then it stops, and the caller
   * restarts. Rejects as the session's calls do.
   */
  async step(
    session: ComparisonSession,
    diskId: Uuid,
    isVoid: () => boolean,
  ): Promise<ComparisonStep> {
    try {
      const head = await this.#open(session, diskId);
      if (head === undefined) return "failed";
      return await this.#compareSome(session, diskId, head, isVoid);
    } catch (error) {
      if (hasCode(error, MOBILITY_ERRORS.COMPARISON_FAILED)) return "failed";
      if (!hasCode(error, MOBILITY_ERRORS.COMPARISON_GONE)) throw error;
      this.#session = undefined;
      return "wait";
    }
  }

  async #open(session: ComparisonSession, diskId: Uuid): Promise<Head | undefined> {
    if (this.#session === session) return must(this.#head, "head");
    const { headSeq, key, blockCount } = await session.openComparison(diskId);
    if (blockCount !== blocksOf(this.#parts.disk.sizeBytes)) return undefined;
    const isSame = this.#head?.headSeq === headSeq && this.#head.key === key;
    if (!isSame) {
      this.restart();
      this.#head = { headSeq, key, hasher: new ComparisonHasher(Buffer.from(key, "hex")) };
    }
    this.#session = session;
    return must(this.#head, "head");
  }

  async #compareSome(
    session: ComparisonSession,
    diskId: Uuid,
    head: Head,
    isVoid: () => boolean,
  ): Promise<ComparisonStep> {
    const { headSeq } = head;
    const { epoch, signal } = session;
    const first = this.#cursor;
    const count = Math.min(GRANULES_PER_REQUEST_MAX, this.#granules - first);
    const theirs = await session.granuleHashes(diskId, { headSeq, epoch, granule: first, count });
    for (let at = 0; at < theirs.length; at += COMPARISON_HASH_BYTES) {
      await this.#parts.pace.wait(GRANULE_BYTES, signal);
      if (isVoid()) return "wait";
      const granule = this.#cursor;
      const hash = theirs.subarray(at, at + COMPARISON_HASH_BYTES);
      const own = await this.#differingBlocksOf(granule, hash, head.hasher, signal);
      if (own !== undefined) {
        const blocks = await session.blockHashes(diskId, { headSeq, epoch, granule });
        this.#mark(granule, own, blocks);
      }
      this.#cursor += 1;
    }
    return this.#cursor < this.#granules ? "more" : "through";
  }

  /** Hashes of a granule's blocks where the granule is not what `theirs` says; nothing where it cannot be read. */
  async #differingBlocksOf(
    granule: number,
    theirs: Buffer,
    hasher: ComparisonHasher,
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    const { batchMemory, live } = this.#parts;
    const buffers = await batchMemory.take(signal);
    try {
      await this.#read(granule, buffers);
      const isZero = blockStretch(buffers.read, 0, GRANULE_BLOCKS, true) === GRANULE_BLOCKS;
      const own = isZero ? hasher.zeroGranule : hasher.granule(buffers.read);
      return own.equals(theirs) ? undefined : hasher.blocks(buffers.read);
    } catch (error) {
      if (!hasCode(error, MOBILITY_ERRORS.DISK_UNREADABLE)) throw error;
      // Copying finds out which of its blocks can be read.
      live.add(granule * GRANULE_BLOCKS, GRANULE_BLOCKS);
      return undefined;
    } finally {
      batchMemory.give(buffers);
    }
  }

  async #read(granule: number, { read }: BatchBuffers): Promise<void> {
    const { disk, reader } = this.#parts;
    const start = granule * GRANULE_BLOCKS;
    const blocks = Math.min(GRANULE_BLOCKS, blocksOf(disk.sizeBytes) - start);
    await reader.read(start * BLOCK_BYTES, read.subarray(0, blocks * BLOCK_BYTES));
    read.fill(0, blocks * BLOCK_BYTES);
    maskSwap(disk.swapRanges, start, blocks, read, 0);
  }

  #mark(granule: number, own: Buffer, theirs: Buffer): void {
    for (let block = 0; block < GRANULE_BLOCKS; block++) {
      const from = block * COMPARISON_HASH_BYTES;
      const to = from + COMPARISON_HASH_BYTES;
      if (own.compare(theirs, from, to, from, to) === 0) continue;
      this.#parts.live.add(granule * GRANULE_BLOCKS + block, 1);
      this.#differingBlocks += 1;
    }
  }
}
