import assert from "node:assert/strict";
import { test } from "node:test";

import { eachRun } from "./change-tracker.contract.ts";
import { DirtyBitmap } from "./dirty-bitmap.ts";
import {
  type DirtyBitmapLayout,
  GROUP_BYTES,
  GROUP_MARKED,
  GROUP_WHOLES,
  GROUP_WORDS,
  bytesOf,
  dirtyBitmapLayout,
  layoutWith,
} from "./dirty-bitmap-layout.ts";

/** A disk of 1,000,000 granules of 4 KiB: the last word and the last group are not full. */
const GRANULES = 1_000_000;

const GROUP_LONGS = GROUP_BYTES / 8;

/** Does what the kernel's program does, bit by bit. */
class Writer {
  readonly layout: DirtyBitmapLayout = layoutWith(GRANULES * 8, 3);
  readonly buffer = new ArrayBuffer(bytesOf(this.layout));
  readonly #longs = new BigUint64Array(this.buffer);

  mark(start: number, end: number): void {
    for (let granule = start; granule < end; granule++) {
      const word = Math.floor(granule / 64);
      this.#set(word, GROUP_WORDS / 8 + (word % 64), granule % 64);
      this.#set(word, GROUP_MARKED / 8, word % 64);
    }
  }

  markWhole(word: number): void {
    this.#set(word, GROUP_WHOLES / 8, word % 64);
    this.#set(word, GROUP_MARKED / 8, word % 64);
  }

  /** As a process leaves it that is killed after it cleared the marks of the groups. */
  clearMarks(): void {
    for (let group = 0; group < this.layout.groups; group++)
      this.#longs[group * GROUP_LONGS + GROUP_MARKED / 8] = 0n;
  }

  get isClear(): boolean {
    return this.#longs.every((long) => long === 0n);
  }

  /** A bit of a long of the group that `word` is in. */
  #set(word: number, long: number, bit: number): void {
    const at = Math.floor(word / 64) * GROUP_LONGS + long;
    this.#longs[at] = (this.#longs[at] ?? 0n) | (1n << BigInt(bit));
  }
}

function drained(bitmap: DirtyBitmap, onWord: () => void = () => undefined): string[] {
  const runs: string[] = [];
  bitmap.drain((granule, bits) => {
    eachRun(bits, (start, end) => runs.push(`${granule + start}+${end - start}`));
    onWord();
  });
  return runs;
}

test("runs come out in order, cut where a half word ends, and only once", () => {
  const writer = new Writer();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  assert.deepEqual(drained(bitmap), []);
  writer.mark(0, 1);
  writer.mark(3, 6);
  writer.mark(31, 33);
  writer.mark(64, 96);
  writer.mark(300_000, 300_002);
  writer.mark(GRANULES - 1, GRANULES);
  const expected = ["0+1", "3+3", "31+1", "32+1", "64+32", "300000+2", "999999+1"];
  assert.deepEqual(drained(bitmap), expected);
  assert.ok(writer.isClear);
  assert.deepEqual(drained(bitmap), []);
});

test("every set of granules comes out as it was, whatever the bits", () => {
  const writer = new Writer();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  let state = 20_261_129;
  for (let round = 0; round < 50; round++) {
    const marked = new Set<number>();
    for (let index = 0; index < 200; index++) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      const granule = state % (round % 2 === 0 ? 500 : GRANULES);
      marked.add(granule);
      writer.mark(granule, granule + 1);
    }
    const seen: number[] = [];
    bitmap.drain((granule, bits) => {
      eachRun(bits, (start, end) => {
        for (let at = start; at < end; at++) seen.push(granule + at);
      });
    });
    assert.deepEqual(
      seen,
      [...marked].toSorted((one, other) => one - other),
    );
    assert.ok(writer.isClear);
  }
});

test("a whole word comes out whole, and what was in it besides", () => {
  const writer = new Writer();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  writer.markWhole(70);
  writer.mark(70 * 64 + 5, 70 * 64 + 6);
  assert.deepEqual(drained(bitmap), ["4480+32", "4512+32", "4485+1"]);
  assert.ok(writer.isClear);
});

test("what is marked while it is drained is not lost", () => {
  const writer = new Writer();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  writer.mark(10, 11);
  const first = drained(bitmap, () => {
    writer.mark(11, 12);
  });
  assert.deepEqual(first, ["10+1"]);
  assert.deepEqual(drained(bitmap), ["11+1"]);
});

test("whoever is killed between the groups and the words leaves all to a successor that looks at all", () => {
  const writer = new Writer();
  writer.mark(77, 78);
  writer.mark(GRANULES - 1, GRANULES);
  writer.clearMarks();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  assert.deepEqual(drained(bitmap), []);
  bitmap.lookAtAll();
  assert.deepEqual(drained(bitmap), ["77+1", "999999+1"]);
});

test("whoever is killed while a run is taken finds it again", () => {
  const writer = new Writer();
  const bitmap = new DirtyBitmap(writer.buffer, writer.layout);
  writer.mark(40, 42);
  assert.throws(() =>
    bitmap.drain(() => {
      throw new Error("killed");
    }),
  );
  bitmap.lookAtAll();
  assert.deepEqual(drained(bitmap), ["40+2"]);
});

test("granules are 4 KiB until the memory is too small for them", () => {
  const tebibyteSectors = 2 ** 31;
  const exact = dirtyBitmapLayout(tebibyteSectors, 34 * 2 ** 20);
  assert.equal(exact.granuleShift, 3);
  assert.equal(exact.groups, 2 ** 16);
  const coarse = dirtyBitmapLayout(tebibyteSectors, 5 * 2 ** 20);
  assert.equal(coarse.granuleShift, 6);
  assert.ok(bytesOf(coarse) <= 5 * 2 ** 20);
  assert.ok(dirtyBitmapLayout(2 ** 60, 64).groups >= 1);
});
