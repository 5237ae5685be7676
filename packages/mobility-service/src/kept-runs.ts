import { assert, must } from "@osr/base/assert";

/** Numbers of one run: disk, first block, blocks. */
const RUN_WORDS = 3;
const COUNT = 0;
const BYTES = 1;
const RUNS_AT = 2;

/** Memory of a list of `runsMax` runs. */
export function keptRunsWords(runsMax: number): number {
  return RUNS_AT + runsMax * RUN_WORDS;
}

/**
 * Runs of blocks that were taken out of the live sets and are not spooled yet. Whoever is ended leaves them here, and its
 * successor returns them. A run counts once it is whole.
 */
export class KeptRuns {
  readonly #words: Uint32Array;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  get size(): number {
    return must(this.#words[COUNT], "count");
  }

  /** Of the batch that holds them, once it is on its way. */
  get bytes(): number {
    return must(this.#words[BYTES], "bytes");
  }

  set bytes(bytes: number) {
    this.#words[BYTES] = bytes;
  }

  add(disk: number, start: number, count: number): void {
    const runs = this.size;
    const last = RUNS_AT + (runs - 1) * RUN_WORDS;
    const words = this.#words;
    if (
      runs > 0 &&
      words[last] === disk &&
      must(words[last + 1], "start") + must(words[last + 2], "count") === start
    ) {
      words[last + 2] = must(words[last + 2], "count") + count;
      return;
    }
    const at = RUNS_AT + runs * RUN_WORDS;
    assert(at + RUN_WORDS <= words.length, "there is room for one more run");
    words[at] = disk;
    words[at + 1] = start;
    words[at + 2] = count;
    words[COUNT] = runs + 1;
  }

  clear(): void {
    this.#words[COUNT] = 0;
    this.#words[BYTES] = 0;
  }

  forEach(visit: (disk: number, start: number, count: number) => void): void {
    for (let run = 0, at = RUNS_AT; run < this.size; run++, at += RUN_WORDS)
      visit(
        must(this.#words[at], "disk"),
        must(this.#words[at + 1], "start"),
        must(this.#words[at + 2], "count"),
      );
  }
}
