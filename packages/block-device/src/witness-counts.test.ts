import assert from "node:assert/strict";
import { test } from "node:test";

import {
  COUNTS_BYTES,
  COUNTS_OF_PROGRAM_BYTES,
  COUNT_DISCARDED,
  COUNT_UNPLACED,
  COUNT_WRITTEN,
} from "./change-program.ts";
import { WitnessCounts } from "./witness-counts.ts";

const CPUS = 2;
const PROGRAMS = 3;

/** A kernel with three programs on two CPUs. */
class Kernel {
  readonly memory = {
    counts: new Uint32Array((CPUS * COUNTS_BYTES) / 4),
    ours: new Float64Array(COUNTS_BYTES / 8),
  };
  readonly misses = [0, 0, 0];
  readonly witnesses = new WitnessCounts(this.memory, PROGRAMS);

  /** A request that these programs do not see, as they were interrupted by it. */
  write(sectors: number, options: { missedBy?: readonly number[]; cpu?: number } = {}): void {
    this.#request(COUNT_WRITTEN, sectors, options);
  }

  discard(sectors: number, options: { missedBy?: readonly number[] } = {}): void {
    this.#request(COUNT_DISCARDED, sectors, options);
  }

  add(program: number, field: number, count: number, cpu = 0): void {
    const at = cpu * COUNTS_BYTES + program * COUNTS_OF_PROGRAM_BYTES + field;
    const wide = new BigUint64Array(this.memory.counts.buffer, at, 1);
    wide[0] = (wide[0] ?? 0n) + BigInt(count);
  }

  /** Looks twice, as nothing is taken for missed while requests complete. */
  settle(witnesses = this.witnesses): unknown {
    this.look(witnesses);
    return this.look(witnesses);
  }

  look(witnesses = this.witnesses): unknown {
    return witnesses.settle((program) => this.misses[program] ?? NaN);
  }

  #request(
    field: number,
    sectors: number,
    { missedBy = [], cpu = 0 }: { missedBy?: readonly number[]; cpu?: number },
  ): void {
    for (let program = 0; program < PROGRAMS; program++)
      if (missedBy.includes(program)) this.misses[program] = (this.misses[program] ?? 0) + 1;
      else this.add(program, field, sectors, cpu);
  }
}

test("nothing is known at first, then all CPUs are added up", () => {
  const kernel = new Kernel();
  kernel.write(8);
  assert.equal(kernel.settle(), undefined);
  kernel.write(16, { cpu: 1 });
  kernel.discard(2048);
  kernel.write(2 ** 33);
  assert.deepEqual(kernel.settle(), { written: 24 + 2 ** 33, discarded: 2048 });
});

test("what one has missed is known from another, and stays known", () => {
  const kernel = new Kernel();
  kernel.settle();
  kernel.write(8, { missedBy: [0] });
  kernel.discard(16, { missedBy: [0, 1] });
  assert.deepEqual(kernel.settle(), { written: 8, discarded: 16 });
  kernel.write(8, { missedBy: [2] });
  assert.deepEqual(kernel.settle(), { written: 16, discarded: 16 });
  kernel.write(8, { missedBy: [1] });
  assert.deepEqual(kernel.settle(), { written: 24, discarded: 16 });
});

test("where each has missed something it cannot be told, and all begin anew", () => {
  const kernel = new Kernel();
  kernel.settle();
  kernel.write(8, { missedBy: [0] });
  kernel.write(24, { missedBy: [1, 2] });
  assert.equal(kernel.settle(), undefined);
  const first = kernel.settle() as { written: number };
  kernel.write(8);
  assert.deepEqual(kernel.settle(), { written: first.written + 8, discarded: 0 });
});

test("a request that some have yet to count is not taken for one that they have missed", () => {
  const kernel = new Kernel();
  kernel.settle();
  kernel.write(8, { missedBy: [2] });
  kernel.add(0, COUNT_WRITTEN, 40);
  assert.deepEqual(kernel.look(), { written: 48, discarded: 0 });
  kernel.add(1, COUNT_WRITTEN, 40);
  assert.deepEqual(kernel.look(), { written: 48, discarded: 0 });
  kernel.add(2, COUNT_WRITTEN, 40);
  assert.deepEqual(kernel.settle(), { written: 48, discarded: 0 });
  kernel.write(8, { missedBy: [0, 1] });
  assert.deepEqual(kernel.settle(), { written: 56, discarded: 0 });
});

test("while requests complete that all have missed some of, nothing can be told", () => {
  const kernel = new Kernel();
  kernel.settle();
  kernel.write(8, { missedBy: [0, 1] });
  kernel.write(8, { missedBy: [2] });
  assert.equal(kernel.look(), undefined);
  kernel.write(8);
  assert.equal(kernel.look(), undefined);
  assert.equal(kernel.look(), undefined);
  assert.notEqual(kernel.look(), undefined);
});

test("whoever comes after knows what was known", () => {
  const kernel = new Kernel();
  kernel.settle();
  kernel.write(8, { missedBy: [0] });
  kernel.settle();
  kernel.write(8, { missedBy: [1] });
  const successor = new WitnessCounts(kernel.memory, PROGRAMS);
  assert.deepEqual(kernel.settle(successor), { written: 16, discarded: 0 });
});

test("requests without a place are told by whoever saw most", () => {
  const kernel = new Kernel();
  kernel.add(1, COUNT_UNPLACED, 2);
  kernel.add(1, COUNT_UNPLACED, 1, 1);
  kernel.add(2, COUNT_UNPLACED, 1);
  assert.equal(kernel.witnesses.unplaced, 3);
});
