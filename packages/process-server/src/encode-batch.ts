import { BLOCK_BYTES } from "@osr/base/block-range";
import {
  FRAME_BLOCKS_MAX,
  type FrameOrigin,
  encodeFrame,
  frameBytesMax,
  prepareFrameContext,
} from "@osr/repository/frame";

import { type BatchPlan, RUN_FIELDS } from "./batch-plan.ts";

/** All that it takes to encode a batch, in any thread. */
export type EncodeJob = {
  /** The body of the batch. */
  readonly body: Uint8Array<ArrayBuffer>;
  readonly plan: BatchPlan;
  readonly frameKey: Uint8Array;
  readonly origin: FrameOrigin;
  /** Number of the first frame. */
  readonly frameNoFirst: number;
};

export type EncodedBatch = {
  /** The frames, one after the other. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For each frame: bytes of ciphertext, runs. */
  readonly frames: Uint32Array<ArrayBuffer>;
  /** Processor time that it took, in microseconds. */
  readonly cpuUs: number;
};

const SCRATCH = Buffer.alloc(FRAME_BLOCKS_MAX * BLOCK_BYTES);

/**
 * Where frames are made before their length is known: one for each thread, grown to the largest batch. A fresh buffer for
 * every batch would be three times as long as its frames and keep the allocator and the garbage collector busy.
 */
let scratchTarget = Buffer.alloc(0);

/** Encodes the frames of a batch. Synchronous and pure but for `cpuUs`. */
export function encodeBatch(job: EncodeJob): EncodedBatch {
  const before = process.threadCpuUsage();
  const { plan } = job;
  const body = Buffer.from(job.body.buffer, job.body.byteOffset, job.body.byteLength);
  const key = Buffer.from(job.frameKey);
  const context = prepareFrameContext(job.origin);
  const target = scratchTargetOf(targetBytesMax(plan));
  const frames = new Uint32Array(plan.frameRuns.length * 2);
  let targetOffset = 0;
  let run = 0;
  for (const [index, runs] of plan.frameRuns.entries()) {
    const plain = gather(body, plan.runs, run, runs);
    const frameNo = job.frameNoFirst + index;
    const { bytes, cipherBytes } = encodeFrame({
      plain,
      frameNo,
      key,
      context,
      target,
      targetOffset,
    });
    targetOffset += bytes;
    frames[index * 2] = cipherBytes;
    frames[index * 2 + 1] = runs;
    run += runs;
  }
  const used = process.threadCpuUsage(before);
  return {
    bytes: new Uint8Array(target.subarray(0, targetOffset)),
    frames,
    cpuUs: used.user + used.system,
  };
}

/** The blocks of a frame: where they lie in one piece in the body they are not copied. */
function gather(body: Buffer, runs: Uint32Array, first: number, count: number): Buffer {
  let filled = 0;
  for (let run = first; run < first + count; run++) {
    const bytes = runs[run * RUN_FIELDS + 1]! * BLOCK_BYTES;
    const offset = runs[run * RUN_FIELDS + 2]!;
    if (count === 1) return body.subarray(offset, offset + bytes);
    filled += body.copy(SCRATCH, filled, offset, offset + bytes);
  }
  return SCRATCH.subarray(0, filled);
}

function scratchTargetOf(bytes: number): Buffer {
  if (scratchTarget.length < bytes) scratchTarget = Buffer.from(new ArrayBuffer(bytes));
  return scratchTarget;
}

function targetBytesMax(plan: BatchPlan): number {
  // A frame that does not shrink adds its header, tag and padding to its blocks.
  const perFrame = frameBytesMax(1) - BLOCK_BYTES;
  return plan.blockCount * BLOCK_BYTES + plan.frameRuns.length * perFrame;
}
