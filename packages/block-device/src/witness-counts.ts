import { isDeepStrictEqual } from "node:util";

import { must } from "@osr/base/assert";

import {
  COUNTS_BYTES,
  COUNTS_OF_PROGRAM_BYTES,
  COUNT_DISCARDED,
  COUNT_UNPLACED,
  COUNT_WRITTEN,
} from "./change-program.ts";
import type { SectorCounts } from "./change-tracker.ts";

const ROW_WORDS = COUNTS_BYTES / 4;
const PROGRAM_WORDS = COUNTS_OF_PROGRAM_BYTES / 4;
const WORD_SPAN = 2 ** 32;

/** Numbers that are kept for each program. */
const KEPT = 3;
const WRITTEN_MORE = 0;
const DISCARDED_MORE = 1;
/** One more than the misses that the two before account for; 0 where nothing is known yet. */
const MISSES_SEEN = 2;

export type WitnessMemory = {
  /** Rows of the programs' counts, one for each CPU. */
  readonly counts: Uint32Array;
  /** What is kept of them, for whoever comes after us. */
  readonly ours: Float64Array;
};

/**
 * The sectors of a disk, as several programs count them that are alike. Each misses what comes while it runs on the same CPU;
 * the kernel says how often that was. Where one has missed something since the last look and another has not, what it missed is
 * what the other has more.
 */
export class WitnessCounts {
  readonly #memory: WitnessMemory;
  readonly #programs: readonly number[];
  /** Of each program, at the last look. */
  #counted: readonly number[] = [];

  constructor(memory: WitnessMemory, programCount: number) {
    this.#memory = memory;
    this.#programs = Array.from({ length: programCount }, (_, program) => program);
  }

  /** The highest count. */
  get highest(): SectorCounts {
    return {
      written: Math.max(...this.#programs.map((program) => this.#written(program))),
      discarded: Math.max(...this.#programs.map((program) => this.#discarded(program))),
    };
  }

  /** Requests that had no place on the disk, by the count of whoever saw most. */
  get unplaced(): number {
    return Math.max(...this.#programs.map((program) => this.#sum(program, COUNT_UNPLACED)));
  }

  /**
   * All sectors so far, while no request completes. Undefined where nobody saw all since the last look: then the counts begin
   * anew with the highest. `misses`: what the kernel says of each program.
   */
  settle(misses: (program: number) => number): SectorCounts | undefined {
    const isStill = this.#isStill();
    const seen = this.#programs.map((program) => misses(program) + 1);
    const isWhole = (program: number): boolean =>
      this.#kept(program, MISSES_SEEN) === seen[program];
    const whole = this.#programs.filter(isWhole);
    const highest = this.highest;
    if (whole.length === this.#programs.length) return highest;
    const isTold =
      whole.length > 0 && (!isStill || whole.every((each) => this.#agrees(each, highest)));
    if (isStill)
      for (const program of this.#programs)
        this.#align(program, highest, must(seen[program], "misses"));
    return isTold ? highest : undefined;
  }

  /**
   * Whether nobody has counted anything since the last look. They count one after the other, so that one may not have come to
   * the newest request yet: what it counts afterwards must not be taken for missed.
   */
  #isStill(): boolean {
    const counted = this.#programs.map(
      (program) => this.#sum(program, COUNT_WRITTEN) + this.#sum(program, COUNT_DISCARDED),
    );
    const isStill = isDeepStrictEqual(counted, this.#counted);
    this.#counted = counted;
    return isStill;
  }

  /** What it has missed until now is what the highest has more. */
  #align(program: number, highest: SectorCounts, missesSeen: number): void {
    this.#keep(program, WRITTEN_MORE, highest.written - this.#written(program));
    this.#keep(program, DISCARDED_MORE, highest.discarded - this.#discarded(program));
    this.#memory.ours[program * KEPT + MISSES_SEEN] = missesSeen;
  }

  #agrees(program: number, { written, discarded }: SectorCounts): boolean {
    return this.#written(program) === written && this.#discarded(program) === discarded;
  }

  #written(program: number): number {
    return this.#sum(program, COUNT_WRITTEN) + this.#kept(program, WRITTEN_MORE);
  }

  #discarded(program: number): number {
    return this.#sum(program, COUNT_DISCARDED) + this.#kept(program, DISCARDED_MORE);
  }

  #kept(program: number, field: number): number {
    return must(this.#memory.ours[program * KEPT + field], "a number");
  }

  #keep(program: number, field: number, more: number): void {
    this.#memory.ours[program * KEPT + field] = this.#kept(program, field) + more;
  }

  /** Over all CPUs. */
  #sum(program: number, fieldBytes: number): number {
    const { counts } = this.#memory;
    let sum = 0;
    for (let at = program * PROGRAM_WORDS + fieldBytes / 4; at < counts.length; at += ROW_WORDS)
      sum += must(counts[at], "low half") + must(counts[at + 1], "high half") * WORD_SPAN;
    return sum;
  }
}
