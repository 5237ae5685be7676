import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";
import { alignedBuffer } from "@osr/block-device/aligned-buffer";

import type { KeptRuns } from "./kept-runs.ts";

/** What can be read while the machine is frozen. */
export const REMAINDER_BYTES_MAX = 8 * MIB;
export const REMAINDER_RUNS_MAX = REMAINDER_BYTES_MAX / BLOCK_BYTES;

/** What all disks hold that was dirty at the freeze: allocated before it, filled during it, sent after it. */
export class Remainder {
  /** What is in it and not yet in a batch; see DiskReplication.returnRuns. */
  readonly unsent: KeptRuns;
  readonly memory = alignedBuffer(REMAINDER_BYTES_MAX);
  readonly disks = new Uint16Array(REMAINDER_RUNS_MAX);
  readonly starts = new Uint32Array(REMAINDER_RUNS_MAX);
  readonly counts = new Uint16Array(REMAINDER_RUNS_MAX);
  runs = 0;
  blocks = 0;

  constructor(unsent: KeptRuns) {
    this.unsent = unsent;
  }

  clear(): void {
    this.unsent.clear();
    this.runs = 0;
    this.blocks = 0;
  }

  /** Blocks that one more run may have. */
  get roomBlocks(): number {
    if (this.runs === REMAINDER_RUNS_MAX) return 0;
    return REMAINDER_BYTES_MAX / BLOCK_BYTES - this.blocks;
  }

  /** Adds a run whose content was read to the end of what is filled. */
  push(diskIndex: number, start: number, count: number): void {
    assert(count <= this.roomBlocks, "the run fits");
    this.disks[this.runs] = diskIndex;
    this.starts[this.runs] = start;
    this.counts[this.runs] = count;
    this.runs += 1;
    this.blocks += count;
  }
}
