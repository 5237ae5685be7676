import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";
import { WaitingLine } from "@osr/base/waiting-line";
import { alignedBuffer } from "@osr/block-device/aligned-buffer";

import { batchBodyBytes } from "./batch-writer.ts";
import type { KeptRuns } from "./kept-runs.ts";
import type { KeptState } from "./kept-state.ts";
import type { ReplicationLimits } from "./replication-limits.ts";

/** Blocks that are read at once. */
export const READ_BLOCKS = MIB / BLOCK_BYTES;

/** Memory of one batch, with whatever its last user left in it. */
export type BatchBuffers = {
  readonly body: Buffer;
  /** Page-aligned memory of READ_BLOCKS. */
  readonly read: Buffer;
  /** What was taken for the batch and is not acknowledged; empty when it is given back. */
  readonly runs: KeptRuns;
};

/** Memory of batches under one limit for the machine; whoever waits longest is next. */
export class BatchMemory {
  readonly #free: BatchBuffers[] = [];
  readonly #waiting = new WaitingLine<BatchBuffers>();

  constructor(limits: ReplicationLimits, kept: Pick<KeptState, "batchRuns">) {
    const count = limits.batchesHeldMax;
    const bytes = READ_BLOCKS * BLOCK_BYTES;
    const aligned = alignedBuffer(count * bytes);
    for (const [index, runs] of kept.batchRuns.entries()) {
      const read = aligned.subarray(index * bytes, (index + 1) * bytes);
      const body = Buffer.allocUnsafeSlow(batchBodyBytes(limits.batchBlocks));
      this.#free.push({ body, read, runs });
    }
  }

  /** Rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<BatchBuffers> {
    signal.throwIfAborted();
    return this.#free.pop() ?? (await this.#waiting.wait(signal));
  }

  give(buffers: BatchBuffers): void {
    assert(buffers.runs.size === 0, "nothing of the batch is left unanswered");
    if (!this.#waiting.serve(buffers)) this.#free.push(buffers);
  }
}
