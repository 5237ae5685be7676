import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { DirtyMemory, PAGE_BLOCKS, pageBytes } from "./dirty-memory.ts";
import { DirtySet } from "./dirty-set.ts";
import { REPLICATION_LIMITS } from "./replication-limits.ts";

/** Two whole pages and a tail that no granule divides. */
const BLOCKS = 2 * PAGE_BLOCKS + 1000 * 256 + 77;

type Step = {
  readonly kind: "add" | "add bits" | "remove" | "take";
  readonly at: number;
  readonly count: number;
  readonly bits: number;
};

const edges = [0, 1, 31, 32, 255, 256, PAGE_BLOCKS - 1, PAGE_BLOCKS, 2 * PAGE_BLOCKS, BLOCKS - 1];
const stepArbitrary: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("add", "add bits", "add bits", "remove", "take"),
  at: fc.oneof(fc.nat(BLOCKS - 1), fc.constantFrom(...edges)),
  count: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.constantFrom(PAGE_BLOCKS, BLOCKS)),
  bits: fc.oneof(fc.integer(), fc.constantFrom(0, -1, 1, -(2 ** 31))),
});

function naiveCount(naive: Uint8Array): number {
  let count = 0;
  for (const bit of naive) count += bit;
  return count;
}

/** All runs of a set, by the cursor that the reader uses. */
function contentOf(set: DirtySet): Uint8Array {
  const content = new Uint8Array(set.blockCount);
  for (let at = 0; ;) {
    const count = set.findRun(at, 256);
    if (count === 0) return content;
    content.fill(1, set.runStart, set.runStart + count);
    at = set.runStart + count;
  }
}

function apply(set: DirtySet, naive: Uint8Array, step: Step): void {
  const end = Math.min(step.at + step.count, BLOCKS);
  if (step.kind === "add") {
    set.add(step.at, step.count);
    naive.fill(1, step.at, end);
  } else if (step.kind === "add bits") {
    const start = step.at - (step.at % 32);
    set.addBits(start, step.bits);
    for (let bit = 0; bit < 32; bit++)
      if ((step.bits >>> bit) & 1 && start + bit < BLOCKS) naive[start + bit] = 1;
  } else if (step.kind === "remove") {
    set.remove(step.at, step.count);
    naive.fill(0, step.at, end);
  } else {
    const count = set.findRun(step.at, 256);
    set.remove(set.runStart, count);
    naive.fill(0, set.runStart, set.runStart + count);
  }
}

test("with memory to spare a dirty set is exactly a set of block numbers", () => {
  fc.assert(
    fc.property(fc.array(stepArbitrary, { maxLength: 30 }), (steps) => {
      const memory = new DirtyMemory(REPLICATION_LIMITS.dirtyMemoryBytesMax);
      const set = new DirtySet(BLOCKS, memory, { isLive: true });
      const naive = new Uint8Array(BLOCKS);
      for (const step of steps) {
        apply(set, naive, step);
        assert.equal(set.has(step.at), naive[step.at] === 1);
      }
      assert.equal(set.blocks, naiveCount(naive));
      assert.deepEqual(contentOf(set), naive);
      set.dispose();
      assert.equal(memory.usedBytes, 0);
    }),
    { numRuns: 150 },
  );
});

test("a coarsened set never forgets a block, and counts what it holds", () => {
  fc.assert(
    fc.property(
      fc.array(stepArbitrary, { maxLength: 30 }),
      fc.constantFrom(0, 200, 5000, pageBytes(0) + 3000),
      (steps, bytesMax) => {
        const memory = new DirtyMemory(bytesMax);
        const live = new DirtySet(BLOCKS, memory, { isLive: true });
        const interval = new DirtySet(BLOCKS, memory, { isLive: false });
        const naive = new Uint8Array(BLOCKS);
        for (const [index, step] of steps.entries()) {
          apply(live, naive, step);
          if (index % 3 === 0) interval.add(step.at, step.count);
        }
        const content = contentOf(live);
        assert.ok(naive.every((bit, block) => bit === 0 || content[block] === 1));
        assert.equal(live.blocks, naiveCount(content));
        assert.ok(memory.usedBytes <= Math.max(bytesMax, 6 * pageBytes(2)));
      },
    ),
    { numRuns: 100 },
  );
});

test("the union of two sets holds both, at any mix of granules", () => {
  fc.assert(
    fc.property(
      fc.array(stepArbitrary, { maxLength: 12 }),
      fc.array(stepArbitrary, { maxLength: 12 }),
      fc.constantFrom<[number, number][]>([200, 1e9], [1e9, 200], [5000, 5000], [1e9, 1e9]),
      (stepsA, stepsB, [bytesA, bytesB]) => {
        const a = new DirtySet(BLOCKS, new DirtyMemory(bytesA), { isLive: true });
        const b = new DirtySet(BLOCKS, new DirtyMemory(bytesB), { isLive: false });
        for (const step of stepsA) a.add(step.at, step.count);
        for (const step of stepsB) b.add(step.at, step.count);
        const expected = contentOf(a);
        for (const [block, bit] of contentOf(b).entries()) if (bit === 1) expected[block] = 1;
        a.addSet(b);
        const union = contentOf(a);
        assert.ok(expected.every((bit, block) => bit === 0 || union[block] === 1));
        assert.equal(a.blocks, naiveCount(union));
        if (bytesA === 1e9 && bytesB === 1e9) assert.deepEqual(union, expected);
      },
    ),
    { numRuns: 80 },
  );
});

test("a disk of 16 TiB that is all dirty holds no bitmap, and its copy holds one page at a time", () => {
  const memory = new DirtyMemory(REPLICATION_LIMITS.dirtyMemoryBytesMax);
  const blockCount = 2 ** 32;
  const live = new DirtySet(blockCount, memory, { isLive: true });
  live.addAll();
  assert.equal(live.blocks, blockCount);
  assert.equal(memory.usedBytes, 0);
  let at = blockCount - PAGE_BLOCKS - 512;
  for (; at < blockCount; at += 256) {
    assert.equal(live.findRun(at, 256), 256);
    assert.equal(live.runStart, at);
    live.remove(at, 256);
    assert.ok(memory.usedBytes <= 2 * pageBytes(0));
  }
  assert.equal(live.findRun(at - PAGE_BLOCKS, 256), 0);
});

test("changes spread over 1 TiB keep the live set exact while four intervals coarsen", () => {
  const memory = new DirtyMemory(REPLICATION_LIMITS.dirtyMemoryBytesMax);
  const blockCount = 2 ** 28;
  const live = new DirtySet(blockCount, memory, { isLive: true });
  const intervals = Array.from(
    { length: 4 },
    () => new DirtySet(blockCount, memory, { isLive: false }),
  );
  let added = 0;
  for (let block = 0; block < blockCount; block += 4001) {
    live.add(block, 1);
    added += 1;
    for (const interval of intervals) interval.add(block, 1);
  }
  assert.equal(live.blocks, added);
  assert.ok(memory.usedBytes <= 34 * 1024 * 1024);
  for (const interval of intervals) assert.ok(interval.has(4001) && interval.blocks >= added);
});
