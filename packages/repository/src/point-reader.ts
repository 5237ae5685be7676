import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import type { BlockSource, Extent } from "@osr/base/block-source";
import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";

import { Semaphore } from "./concurrency.ts";
import { readDiskDescriptor } from "./disk-descriptor.ts";
import {
  FrameMemory,
  type FramePiece,
  type FrameRead,
  collectPieces,
  decodePieces,
  planReads,
} from "./frame-read.ts";
import { type DataKey, indexRootOf } from "./key-schedule.ts";
import { type LogSnapshot, type SnapshotOptions, openLogSnapshot } from "./log-snapshot.ts";
import type { LogId } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import type { PointDisk, RecoveryPoint } from "./recovery-point.ts";
import { ReadMemory } from "./read-memory.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { SHARD_BLOCKS } from "./run-table.ts";

/** Reads of objects that one open disk has under way; with 8 MiB each this bounds its memory. */
const READS_IN_FLIGHT_MAX = 8;

export type OpenPointOptions = {
  readonly vaultId: Uuid;
  /** As listRecoveryPoints gave it: its signature is checked there. */
  readonly point: RecoveryPoint;
  readonly diskId: Uuid;
  readonly dataKey: DataKey;
  readonly signal?: AbortSignal;
};

/** One disk of a recovery point, opened: its runs and its size. */
export type OpenDisk = { readonly snapshot: LogSnapshot; readonly sizeBytes: number };

/**
 * Opens one disk of a recovery point for reading: through segment indexes alone. Throws POINT_DISK_UNKNOWN, LOG_BROKEN,
 * and what damaged objects throw.
 */
export async function openPoint(
  store: ObjectStore,
  options: OpenPointOptions,
): Promise<BlockSource> {
  const { snapshot, sizeBytes } = await openDiskAtPoint(store, options);
  return new PointReader(store, snapshot, sizeBytes);
}

/**
 * Opens a disk at any position of its log, as a disk of `sizeBytes`; what the log does not have of it reads as zeros. Throws
 * what openLogSnapshot throws.
 */
export async function openLogPosition(
  store: ObjectStore,
  options: SnapshotOptions & { readonly sizeBytes: number },
): Promise<BlockSource> {
  return new PointReader(store, await openLogSnapshot(store, options), options.sizeBytes);
}

/** The runs of one disk at a recovery point, and its size. */
export async function openDiskAtPoint(
  store: ObjectStore,
  options: OpenPointOptions,
): Promise<OpenDisk> {
  const { vaultId, dataKey, signal } = options;
  const disk = diskOf(options.point, options.diskId);
  const log: LogId = { vaultId, diskId: disk.diskId, timeline: disk.timeline };
  const descriptor = await readDiskDescriptor(store, log, indexRootOf(dataKey), signal);
  const snapshot = await openLogSnapshot(store, { log, position: disk, dataKey, signal });
  return { snapshot, sizeBytes: disk.sizeBytes ?? descriptor.sizeBytes };
}

function diskOf(point: RecoveryPoint, diskId: Uuid): PointDisk {
  const disk = point.disks.find((candidate) => candidate.diskId === diskId);
  if (disk !== undefined) return disk;
  throw new OsrError(
    REPOSITORY_ERRORS.POINT_DISK_UNKNOWN,
    `disk ${diskId} is not part of recovery point ${point.slot}`,
  );
}

/** Blocks are copied to the reader before the next frame is decoded. */
const memory = new FrameMemory(1);

/** A disk at a recovery point. Frames are decoded once for each call; whoever reads at random puts a cache before it. */
class PointReader implements BlockSource {
  readonly sizeBytes: number;
  readonly #store: ObjectStore;
  readonly #snapshot: LogSnapshot;
  readonly #memory = new ReadMemory();
  readonly #inFlight = new Semaphore(READS_IN_FLIGHT_MAX);

  constructor(store: ObjectStore, snapshot: LogSnapshot, sizeBytes: number) {
    this.#store = store;
    this.#snapshot = snapshot;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#checkRange(offset, target.length);
    const bytes = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
    const pieces: FramePiece[] = [];
    await this.#collect(offset, bytes.length, pieces, signal, (block, count) => {
      const from = Math.max(0, block * BLOCK_BYTES - offset);
      bytes.fill(0, from, Math.min(bytes.length, (block + count) * BLOCK_BYTES - offset));
    });
    const reads = planReads(pieces).map((read) =>
      this.#inFlight.run(() => this.#fetch(read, offset, bytes, signal)),
    );
    // All of them end before this returns: none may write to the caller's memory later.
    const results = await Promise.allSettled(reads);
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async extents(offset: number, bytes: number, signal?: AbortSignal): Promise<readonly Extent[]> {
    this.#checkRange(offset, bytes);
    const ranges: { block: number; count: number; zero: boolean }[] = [];
    const pieces: FramePiece[] = [];
    await this.#collect(offset, bytes, pieces, signal, (block, count) =>
      ranges.push({ block, count, zero: true }),
    );
    for (const { block, count } of pieces) ranges.push({ block, count, zero: false });
    const extents: { offset: number; bytes: number; zero: boolean }[] = [];
    for (const { block, count, zero } of ranges.toSorted((a, b) => a.block - b.block)) {
      const from = Math.max(offset, block * BLOCK_BYTES);
      const until = Math.min(offset + bytes, (block + count) * BLOCK_BYTES);
      const last = extents.at(-1);
      if (last?.zero === zero) last.bytes += until - from;
      else extents.push({ offset: from, bytes: until - from, zero });
    }
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#snapshot[Symbol.asyncDispose]();
  }

  async #collect(
    offset: number,
    bytes: number,
    pieces: FramePiece[],
    signal: AbortSignal | undefined,
    onZero: (block: number, count: number) => void,
  ): Promise<void> {
    const end = Math.ceil((offset + bytes) / BLOCK_BYTES);
    for (let at = Math.floor(offset / BLOCK_BYTES); at < end;) {
      const shardNo = Math.floor(at / SHARD_BLOCKS);
      const until = Math.min(end, (shardNo + 1) * SHARD_BLOCKS);
      const table = await this.#snapshot.shard(shardNo, signal);
      collectPieces(table, at, until, pieces, onZero);
      at = until;
    }
  }

  async #fetch(
    read: FrameRead,
    offset: number,
    target: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { name, frameKey, context } = this.#snapshot.source(read.source);
    const bytes = this.#memory.take(read.bytes);
    await this.#store.read(name, read.offset, bytes, signal);
    decodePieces(read, bytes, { key: frameKey, context, memory }, (piece, blocks) => {
      // The first and the last block may be wanted only in part.
      const at = piece.block * BLOCK_BYTES - offset;
      const skip = Math.max(0, -at);
      blocks.copy(target, at + skip, skip, Math.min(blocks.length, target.length - at));
    });
    this.#memory.giveBack(bytes);
  }

  #checkRange(offset: number, bytes: number): void {
    assert(
      offset >= 0 && bytes >= 0 && offset + bytes <= this.sizeBytes,
      `range ${offset}+${bytes} lies within the disk`,
    );
  }
}
