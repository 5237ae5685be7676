import { randomUuid } from "@osr/base/uuid";

import { type BatchPlan, RUN_FIELDS, ZERO_RUN_FIELDS } from "./batch-plan.ts";
import type { EncodedBatch } from "./encode-batch.ts";
import type { RoleContext } from "./role-context.ts";
import { type SegmentKeys, type SegmentPlan, planSegment } from "./segment-plan.ts";

/**
 * The segment that arriving batches are planned for. It runs ahead of the file: a batch gets its segment and the numbers
 * of its frames when it is taken in, before it is encoded.
 */
export class SegmentDraft {
  readonly plan: SegmentPlan;
  #frames = 0;
  #runs = 0;
  /** Encoded size of what is known, an upper bound of what is still being encoded. */
  #bytes = 0;

  constructor(
    context: RoleContext,
    keys: SegmentKeys,
    place: { readonly seq: number; readonly generation: number },
  ) {
    this.plan = planSegment(keys, {
      ...place,
      objectId: randomUuid(context.randomness),
      createdUnixMs: context.clock.unixMs(),
    });
  }

  /** False where the segment should be closed before a batch of this size; the first batch always fits. */
  fits(
    batch: BatchPlan,
    bodyBytes: number,
    limits: { readonly bytes: number; readonly runs: number },
  ): boolean {
    if (this.#bytes === 0 && this.#runs === 0) return true;
    return this.#bytes + bodyBytes <= limits.bytes && this.#runs + runsOf(batch) <= limits.runs;
  }

  /** Adds a batch; returns the number of its first frame. */
  add(batch: BatchPlan, bodyBytes: number): number {
    const frameNoFirst = this.#frames;
    this.#frames += batch.frameRuns.length;
    this.#runs += runsOf(batch);
    this.#bytes += bodyBytes;
    return frameNoFirst;
  }

  /** The real size of a batch is known. */
  encoded(bodyBytes: number, encoded: EncodedBatch): void {
    this.#bytes += encoded.bytes.length - bodyBytes;
  }
}

function runsOf(batch: BatchPlan): number {
  return batch.runs.length / RUN_FIELDS + batch.zeroRuns.length / ZERO_RUN_FIELDS;
}
