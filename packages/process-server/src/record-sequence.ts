import { OsrError } from "@osr/base/errors";
import { HRL_ERRORS, HRL_TYPES } from "@osr/contracts/hrl-record";
import type { Tag } from "@osr/contracts/tag";

import { type Batch, tagOf } from "./batch.ts";
import type { LastRecord } from "./last-record.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/** What is to be done with a batch that has arrived. */
export type Verdict =
  /** The batch continues the stream from its `skip`-th record on. */
  | { readonly kind: "take"; readonly skip: number }
  /** All of it was taken before. */
  | { readonly kind: "known" }
  /** Records before it are missing. */
  | { readonly kind: "early" };

/** A place between two records: the next one of `interval` is `recordNo`. */
export type Position = { readonly interval: number; readonly recordNo: number };

type Interval = {
  readonly recordNoNext: number;
  readonly ended: boolean;
  /** The tag of its MARK, while or after which the END is due. */
  readonly tag?: Tag;
};

/** Intervals whose length is remembered, so that a batch that comes once more is known. */
const INTERVALS_REMEMBERED_MAX = 16;

/**
 * The order of the records of one disk in one session: which batch comes next, and which one is known. Pure: no waiting
 * and no I/O.
 *
 * States of an interval: unknown, open (its first record was taken), then ended (by its END) or abandoned (a record of a
 * higher interval was taken). Only an open one takes records. A batch of an abandoned one is known as far as it was taken,
 * and refused beyond.
 */
export class RecordSequence {
  readonly #intervals = new Map<number, Interval>();
  readonly #intervalMin: number;
  #newest = 0;

  /** `intervalMin`: lowest interval number that this session may use. */
  constructor(intervalMin: number) {
    this.#intervalMin = intervalMin;
    this.#newest = intervalMin - 1;
  }

  /** Goes on after a record of this session that is durable. */
  static after({ interval, recordNo, ended, tag }: LastRecord): RecordSequence {
    const sequence = new RecordSequence(interval);
    sequence.#newest = interval;
    const known = { recordNoNext: recordNo + 1, ended, ...(tag === undefined ? {} : { tag }) };
    sequence.#intervals.set(interval, known);
    return sequence;
  }

  /** Where the stream goes on. */
  get position(): Position {
    const newest = this.#intervals.get(this.#newest);
    if (newest === undefined || newest.ended)
      return { interval: Math.max(this.#newest + 1, this.#intervalMin), recordNo: 0 };
    return { interval: this.#newest, recordNo: newest.recordNoNext };
  }

  /** Throws RECORDS_OUT_OF_ORDER or HRL_INVALID where the batch can never be taken. */
  classify(batch: Batch): Verdict {
    const { interval, firstRecordNo, lastRecordNo } = batch;
    if (interval > this.#newest)
      return firstRecordNo === 0 ? { kind: "take", skip: 0 } : { kind: "early" };
    const known = this.#intervals.get(interval);
    if (known !== undefined && lastRecordNo < known.recordNoNext) return { kind: "known" };
    if (known === undefined || interval < this.#newest) throw this.outOfOrder();
    if (known.ended)
      throw new OsrError(
        HRL_ERRORS.HRL_INVALID,
        `interval ${interval} ended at record ${known.recordNoNext - 1}, yet ${lastRecordNo} arrived`,
      );
    if (firstRecordNo > known.recordNoNext) return { kind: "early" };
    return { kind: "take", skip: known.recordNoNext - firstRecordNo };
  }

  /**
   * Takes a batch whose verdict is "take". Says whether it ends the interval, and which tag the interval has. Throws
   * HRL_INVALID where a MARK is not followed by END at once; then nothing is taken.
   */
  take(batch: Batch, skip: number): { readonly ended: boolean; readonly tag?: Tag } {
    const taken = batch.records.slice(skip);
    const mark = taken.find(({ header }) => header.type === HRL_TYPES.MARK);
    const ended = taken.at(-1)?.header.type === HRL_TYPES.END;
    const tagBefore = this.#intervals.get(batch.interval)?.tag;
    if (tagBefore !== undefined && taken[0]?.header.type !== HRL_TYPES.END)
      throw new OsrError(HRL_ERRORS.HRL_INVALID, "an END follows a MARK at once");
    const tag = mark === undefined ? tagBefore : tagOf(mark);
    this.#newest = batch.interval;
    this.#intervals.set(batch.interval, {
      recordNoNext: batch.lastRecordNo + 1,
      ended,
      ...(tag === undefined ? {} : { tag }),
    });
    for (const oldest of this.#intervals.keys()) {
      if (this.#intervals.size <= INTERVALS_REMEMBERED_MAX) break;
      this.#intervals.delete(oldest);
    }
    return tag === undefined ? { ended } : { ended, tag };
  }

  /** A copy that goes on from here by itself. */
  copy(): RecordSequence {
    const copy = new RecordSequence(this.#intervalMin);
    copy.#newest = this.#newest;
    for (const [interval, known] of this.#intervals) copy.#intervals.set(interval, known);
    return copy;
  }

  outOfOrder(): OsrError {
    const { interval, recordNo } = this.position;
    return new OsrError(
      PROCESS_SERVER_ERRORS.RECORDS_OUT_OF_ORDER,
      `record ${recordNo} of interval ${interval} comes next`,
      { details: { interval, recordNo } },
    );
  }
}
