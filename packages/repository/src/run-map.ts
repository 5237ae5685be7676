import { assert } from "@osr/base/assert";
import { BLOCK_BYTES, DISK_BYTES_MAX } from "@osr/base/block-range";

import { FRAME_BLOCKS_MAX } from "./frame.ts";
import { RESOLVED_ROWS_MAX, resolveRuns } from "./run-resolution.ts";
import { type FramePlace, RunTable } from "./run-table.ts";

/** Runs that one segment can take; its owner closes it before. Worst case 28 MiB of memory. */
const RUN_MAP_RUNS_MAX = 2 ** 20;
assert(RUN_MAP_RUNS_MAX <= RESOLVED_ROWS_MAX, "a full map can be resolved");

const BLOCKS_MAX = DISK_BYTES_MAX / BLOCK_BYTES;

/** Which blocks a segment changes. Runs are only appended; the newest of a block wins when the map is resolved. */
export class RunMap {
  readonly #table = new RunTable();

  /** Runs that were put, also those that later ones cover. */
  get size(): number {
    return this.#table.length;
  }

  /** Blocks [startBlock, startBlock + count) are in `frame` from its block `offsetInFrame` on. */
  put(startBlock: number, count: number, offsetInFrame: number, frame: FramePlace): void {
    this.#check(startBlock, count);
    assert(offsetInFrame + count <= FRAME_BLOCKS_MAX, "a run lies within its frame");
    assert(frame.cipherBytes > 0 && frame.offset % 16 === 0, "place of the frame");
    this.#table.push(startBlock, count, offsetInFrame, frame);
  }

  /** Blocks [startBlock, startBlock + count) are zero. */
  putZero(startBlock: number, count: number): void {
    this.#check(startBlock, count);
    this.#table.pushZero(startBlock, count);
  }

  /** Sorted runs without overlaps, split at shard boundaries. The map itself stays as it is. */
  resolve(): RunTable {
    return resolveRuns(this.#table);
  }

  #check(startBlock: number, count: number): void {
    assert(count >= 1 && startBlock + count <= BLOCKS_MAX, "range of blocks");
    assert(this.#table.length < RUN_MAP_RUNS_MAX, "the segment has too many runs");
  }
}
