import { BLOCK_BYTES, blocksOf } from "@osr/base/block-range";

import { Semaphore } from "./concurrency.ts";
import {
  FRAME_READ_BYTES_MAX,
  type FramePiece,
  type FrameRead,
  collectPieces,
  planReads,
} from "./frame-read.ts";
import type { LogSnapshot } from "./log-snapshot.ts";
import { MaterialiseThreads } from "./materialise-threads.ts";
import type { ObjectStore } from "./object-store.ts";
import { type OpenPointOptions, openDiskAtPoint } from "./point-reader.ts";
import { type RawOutput, openRawOutput } from "./raw-output.ts";
import { SHARD_BLOCKS } from "./run-table.ts";

/** Threads that decode and write; more would wait for the thread that receives. */
const THREADS_MAX = 2;
/** Reads that are under way or wait for a thread: 8 MiB of memory each. */
const READS_AHEAD_MAX = 6;

type MaterialiseProgress = {
  /** Bytes of the disk, zeros counted. */
  readonly doneBytes: number;
  readonly totalBytes: number;
};

export type MaterialiseOptions = OpenPointOptions & {
  /** A file that does not exist yet, or a block device. */
  readonly path: string;
  /** Processors that are free for decoding, beside the one that receives; 1 where absent. */
  readonly processors?: number;
  readonly onProgress?: (progress: MaterialiseProgress) => void;
};

export type Materialised = {
  readonly sizeBytes: number;
  /** Bytes that came from frames; the rest is zero. */
  readonly dataBytes: number;
};

/**
 * Writes one disk of a recovery point as a raw image. Shard by shard; in each, frames are read in the order of the objects
 * that hold them, decoded in worker threads, and written to their places. Safe to repeat after it was cut.
 */
export async function materialisePoint(
  store: ObjectStore,
  options: MaterialiseOptions,
): Promise<Materialised> {
  const { snapshot, sizeBytes } = await openDiskAtPoint(store, options);
  await using _ = snapshot;
  await using output = await openRawOutput(options.path, sizeBytes);
  await using run = new Materialisation(store, { snapshot, sizeBytes, output, options });
  const dataBytes = await run.all();
  await output.complete();
  return { sizeBytes, dataBytes };
}

type Parts = {
  readonly snapshot: LogSnapshot;
  readonly sizeBytes: number;
  readonly output: RawOutput;
  readonly options: MaterialiseOptions;
};

class Materialisation implements AsyncDisposable {
  readonly #store: ObjectStore;
  readonly #parts: Parts;
  readonly #threads: MaterialiseThreads;
  readonly #ahead = new Semaphore(READS_AHEAD_MAX);
  /** Shared: what is handed from thread to thread instead counts as new memory in each, and made V8 collect for every few. */
  readonly #spare: SharedArrayBuffer[] = [];
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  #doneBytes = 0;
  #dataBytes = 0;

  constructor(store: ObjectStore, parts: Parts) {
    this.#store = store;
    this.#parts = parts;
    const { signal, processors = 1 } = parts.options;
    this.#threads = new MaterialiseThreads(Math.max(1, Math.min(processors, THREADS_MAX)));
    this.#signal =
      signal === undefined ? this.#failed.signal : AbortSignal.any([signal, this.#failed.signal]);
  }

  /** Writes everything; returns the bytes that came from frames. */
  async all(): Promise<number> {
    const { sizeBytes, snapshot } = this.#parts;
    const blocks = blocksOf(sizeBytes);
    const underWay = new Set<Promise<void>>();
    try {
      for (let start = 0; start < blocks; start += SHARD_BLOCKS) {
        const end = Math.min(blocks, start + SHARD_BLOCKS);
        const reads = await this.#plan(start, end);
        // The next shard's runs are read while this one's frames are.
        if (end < blocks) snapshot.shard(end / SHARD_BLOCKS).catch(() => undefined);
        for (const read of reads) await this.#start(read, underWay);
      }
    } catch (error) {
      this.#failed.abort(error);
    }
    await Promise.all(underWay);
    this.#signal.throwIfAborted();
    return this.#dataBytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads[Symbol.asyncDispose]();
  }

  async #plan(start: number, end: number): Promise<readonly FrameRead[]> {
    const { snapshot, output, sizeBytes } = this.#parts;
    const table = await snapshot.shard(Math.floor(start / SHARD_BLOCKS), this.#signal);
    const pieces: FramePiece[] = [];
    const zeros: { readonly offset: number; readonly bytes: number }[] = [];
    collectPieces(table, start, end, pieces, (block, count) => {
      const offset = block * BLOCK_BYTES;
      zeros.push({ offset, bytes: Math.min(sizeBytes - offset, count * BLOCK_BYTES) });
    });
    for (const { offset, bytes } of zeros) {
      this.#signal.throwIfAborted();
      await output.zero(offset, bytes);
      this.#advance(bytes);
    }
    return planReads(pieces);
  }

  /** Starts a read as soon as there is room for it; `underWay` never rejects, a failure aborts everything. */
  async #start(read: FrameRead, underWay: Set<Promise<void>>): Promise<void> {
    this.#signal.throwIfAborted();
    const { promise: started, resolve } = Promise.withResolvers<void>();
    const running = this.#ahead
      .run(async () => {
        resolve();
        await this.#transfer(read);
      })
      .catch((error: unknown) => this.#failed.abort(error))
      .finally(() => underWay.delete(running));
    underWay.add(running);
    await started;
  }

  async #transfer(read: FrameRead): Promise<void> {
    this.#signal.throwIfAborted();
    const { snapshot, sizeBytes, output } = this.#parts;
    const { name, frameKey } = snapshot.source(read.source);
    const memory = this.#spare.pop() ?? new SharedArrayBuffer(FRAME_READ_BYTES_MAX);
    await this.#store.read(name, read.offset, Buffer.from(memory, 0, read.bytes), this.#signal);
    const { vaultId, diskId, timeline, objectId } = snapshot.origin(read.source);
    await this.#threads.run({
      fd: output.fd,
      sizeBytes,
      origin: { vaultId, diskId, timeline, objectId },
      frameKey,
      offset: read.offset,
      bytes: memory,
      byteLength: read.bytes,
      pieces: read.pieces,
    });
    this.#spare.push(memory);
    let bytes = 0;
    for (const { block, count } of read.pieces)
      bytes += Math.min(sizeBytes - block * BLOCK_BYTES, count * BLOCK_BYTES);
    this.#dataBytes += bytes;
    output.wrote(bytes);
    this.#advance(bytes);
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    const { sizeBytes, options } = this.#parts;
    options.onProgress?.({ doneBytes: this.#doneBytes, totalBytes: sizeBytes });
  }
}
