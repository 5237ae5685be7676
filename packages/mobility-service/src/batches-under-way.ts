import type { WrittenBatch } from "./batch-writer.ts";

/** Where the process server says it goes on. */
export type ExpectedRecord = { readonly interval: number; readonly recordNo: number };

/** The batches of one disk that are not answered yet. */
export class BatchesUnderWay {
  readonly #batches = new Set<WrittenBatch>();

  add(batch: WrittenBatch): void {
    this.#batches.add(batch);
  }

  delete(batch: WrittenBatch): void {
    this.#batches.delete(batch);
  }

  /**
   * True where sending what is under way again gives the process server the record that it expects. False where it lacks
   * something that was answered, whose bytes are gone.
   */
  holds(expected: ExpectedRecord): boolean {
    const [first, ...others] = this.#batches;
    if (first === undefined) return false;
    let oldest = first;
    for (const batch of others) if (batch.firstRecordNo < oldest.firstRecordNo) oldest = batch;
    // All of them have one interval: the next one starts only when those of the last one are answered.
    if (expected.interval === oldest.interval) return oldest.firstRecordNo <= expected.recordNo;
    return expected.interval < oldest.interval && oldest.firstRecordNo === 0;
  }
}
