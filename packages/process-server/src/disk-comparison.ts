import { BLOCK_BYTES, blocksOf } from "@osr/base/block-range";
import type { BlockSource } from "@osr/base/block-source";
import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";
import type { ComparisonReply } from "@osr/contracts/agent-protocol";
import {
  COMPARISON_HASH_BYTES,
  ComparisonHasher,
  GRANULE_BLOCKS,
  GRANULE_BYTES,
  granulesOf,
} from "@osr/contracts/disk-comparison";
import { comparisonKeyOf } from "@osr/repository/key-schedule";
import { openLogPosition } from "@osr/repository/point-reader";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import type { Semaphore } from "./semaphore.ts";

/** Granules that are read and hashed at once, over all comparisons: their memory, and what they take from ingest. */
export const GRANULES_AT_ONCE_MAX = 4;
/** A request is answered with what it has after so long. */
const ANSWER_MS = 5 * SECOND_MS;

/** Where a log ended when its comparison began. */
export type LogHead = { readonly seq: number; readonly head: Buffer };

export type DiskToCompare = {
  readonly keys: SegmentKeys;
  readonly head: LogHead;
  readonly sizeBytes: number;
  /** Of the role: GRANULES_AT_ONCE_MAX. */
  readonly hashing: Semaphore;
  readonly signal: AbortSignal;
};

/** Opens a disk at a fixed head of its log. Throws what openLogSnapshot throws. */
export async function openDiskComparison(
  context: RoleContext,
  disk: DiskToCompare,
): Promise<DiskComparison> {
  const { keys, head, sizeBytes, signal } = disk;
  const { log, dataKey } = keys;
  const position = { seq: head.seq, headSha256: head.head.toString("hex") };
  const source = await openLogPosition(context.store, {
    log,
    position,
    dataKey,
    // Whole blocks: the log has the last one with its padding.
    sizeBytes: blocksOf(sizeBytes) * BLOCK_BYTES,
    signal,
  });
  return new DiskComparison(context, disk, source);
}

/** What the log cannot be read with for good becomes COMPARISON_FAILED; all else is thrown as it is. */
export function rethrowReadFailure(error: unknown): never {
  if (!(error instanceof OsrError) || error.retryable || !(error.code in REPOSITORY_ERRORS))
    throw error;
  throw new OsrError(PROCESS_SERVER_ERRORS.COMPARISON_FAILED, error.message, { cause: error });
}

/** Hashes of a disk at one head of its log: docs/formats/agent-protocol.md, Comparison. What is zero is not read. */
export class DiskComparison implements AsyncDisposable {
  readonly reply: ComparisonReply;
  readonly #context: RoleContext;
  readonly #source: BlockSource;
  readonly #hasher: ComparisonHasher;
  readonly #hashing: Semaphore;

  constructor(context: RoleContext, disk: DiskToCompare, source: BlockSource) {
    const { keys, head, sizeBytes, hashing } = disk;
    const key = comparisonKeyOf(keys.dataKey, head.head);
    this.reply = { headSeq: head.seq, blockCount: blocksOf(sizeBytes), key: key.toString("hex") };
    this.#context = context;
    this.#source = source;
    this.#hasher = new ComparisonHasher(key);
    this.#hashing = hashing;
  }

  get granules(): number {
    return granulesOf(this.#source.sizeBytes);
  }

  /** Hashes of granules from `granule` on: at least one, at most `count`, none beyond the end of the disk. */
  async granuleHashes(granule: number, count: number, signal: AbortSignal): Promise<Buffer> {
    const { clock } = this.#context;
    const untilMs = clock.monotonicMs() + ANSWER_MS;
    const end = Math.min(granule + count, this.granules);
    const hashes: Buffer[] = [];
    for (let at = granule; at < end && (at === granule || clock.monotonicMs() < untilMs);) {
      const some = Math.min(end - at, GRANULES_AT_ONCE_MAX);
      const group = Array.from({ length: some }, (_, index) =>
        this.#granuleHash(at + index, signal),
      );
      hashes.push(...(await allOf(group)));
      at += some;
    }
    return Buffer.concat(hashes);
  }

  /** Hashes of all 256 blocks of a granule; those beyond the end of the disk count as zeros. */
  async blockHashes(granule: number, signal: AbortSignal): Promise<Buffer> {
    return await this.#hashing.run(async () => {
      const bytes = await this.#read(granule, signal);
      if (bytes !== undefined) return this.#hasher.blocks(bytes);
      const hashes = Buffer.allocUnsafe(GRANULE_BLOCKS * COMPARISON_HASH_BYTES);
      return hashes.fill(this.#hasher.zeroBlock);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }

  #granuleHash(granule: number, signal: AbortSignal): Promise<Buffer> {
    return this.#hashing.run(async () => {
      const bytes = await this.#read(granule, signal);
      if (bytes === undefined) return this.#hasher.zeroGranule;
      // Whoever ingests goes first: hashing a granule holds the thread for a millisecond or two.
      await this.#context.scheduler.sleep(0, signal);
      return this.#hasher.granule(bytes);
    });
  }

  /** A granule with its padding, or undefined where all of it is zero. */
  async #read(granule: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const offset = granule * GRANULE_BYTES;
    const length = Math.min(GRANULE_BYTES, this.#source.sizeBytes - offset);
    try {
      const extents = await this.#source.extents(offset, length, signal);
      if (extents.every(({ zero }) => zero)) return undefined;
      const bytes = Buffer.alloc(GRANULE_BYTES);
      await this.#source.read(offset, bytes.subarray(0, length), signal);
      return bytes;
    } catch (error) {
      return rethrowReadFailure(error);
    }
  }
}

/** Waits for all, so that none goes on with memory that nobody counts; then the first failure. */
async function allOf<T>(tasks: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(tasks);
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
