import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { hasCode } from "@osr/base/errors";
import { HRL_ERRORS } from "@osr/contracts/hrl-record";
import { uuid } from "@osr/base/uuid";

import { planBatch } from "./batch-plan.ts";
import { parseBatch } from "./batch.ts";
import { Dice, randomChange } from "./model-disk.contract.ts";
import { type Change, encodeChanges } from "./test-agent.contract.ts";

const id = uuid("00000000-0000-4000-8000-000000000001");
const limits = { diskSizeBytes: 500 * 4096 };
const place = { session: 1, interval: 1, recordNo: 0 };
const zero = (block: number, count: number): Change => ({ type: "zero", block, count });
const mark: Change = {
  type: "mark",
  tag: { groupId: id, slot: 1, cutId: id, class: "crash", unixMs: 0, disks: [id] },
};
const refused = { code: "HRL_INVALID" };

test("a batch must have one session, one interval and consecutive numbers", () => {
  const parse = (...parts: Buffer[]) => parseBatch(Buffer.concat(parts), limits);
  const one = encodeChanges([zero(0, 1)], place);
  assert.deepEqual(
    [parse(one).firstRecordNo, parse(one).lastRecordNo, parse(one).interval],
    [0, 0, 1],
  );
  assert.throws(() => parse(Buffer.alloc(0)), refused);
  assert.throws(() => parse(one, one), refused);
  const next = (other: object) => encodeChanges([zero(0, 1)], { ...place, recordNo: 1, ...other });
  parse(one, next({}));
  assert.throws(() => parse(one, next({ session: 2 })), refused);
  assert.throws(() => parse(one, next({ interval: 2 })), refused);
  assert.throws(() => parse(one, next({ recordNo: 2 })), refused);
});

test("blocks beyond the disk, records after END, and MARK without END are refused", () => {
  const parse = (changes: Change[]) => parseBatch(encodeChanges(changes, place), limits);
  parse([zero(499, 1)]);
  assert.throws(() => parse([zero(499, 2)]), refused);
  assert.throws(() => parse([zero(2 ** 32 - 1, 1)]), refused);
  assert.throws(() => parse([{ type: "end" }, zero(0, 1)]), refused);
  assert.throws(() => parse([mark, zero(0, 1)]), refused);
  parse([mark]);
  parse([zero(0, 1), mark, { type: "end" }]);
});

test("any damage to a batch is noticed", () => {
  const dice = new Dice(5);
  const changes = Array.from({ length: 5 }, () => randomChange(dice, 500));
  const good = encodeChanges(changes, place);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const bad = Buffer.from(good);
      bad[at]! ^= flip;
      assert.throws(() => parseBatch(bad, limits), refused);
    }),
    { numRuns: 500 },
  );
});

test("random bytes never do anything but be refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      assert.throws(
        () => parseBatch(Buffer.from(bytes), limits),
        (error) => hasCode(error, HRL_ERRORS.HRL_INVALID),
      );
    }),
    { numRuns: 300 },
  );
});

test("a plan holds every block of a batch once, with its newest content", () => {
  for (let seed = 0; seed < 60; seed++) {
    const dice = new Dice(seed);
    const changes = Array.from({ length: 1 + dice.below(25) }, () => randomChange(dice, 500));
    const body = encodeChanges(changes, place);
    const plan = planBatch(body, parseBatch(body, limits).records);
    const model = new Map<number, Buffer | undefined>();
    for (const change of changes) {
      if (change.type === "data")
        for (let i = 0; i * 4096 < change.content.length; i++)
          model.set(change.block + i, change.content.subarray(i * 4096, (i + 1) * 4096));
      if (change.type === "zero")
        for (let i = 0; i < change.count; i++) model.set(change.block + i, undefined);
    }
    const got = new Map<number, Buffer | undefined>();
    let run = 0;
    for (const runs of plan.frameRuns) {
      let blocks = 0;
      let previous = -1;
      for (const end = run + runs; run < end; run++) {
        const [block, count, offset] = plan.runs.subarray(run * 3, run * 3 + 3);
        assert.ok(block! > previous, "ascending within a frame");
        previous = block! + count! - 1;
        blocks += count!;
        for (let i = 0; i < count!; i++)
          got.set(block! + i, body.subarray(offset! + i * 4096, offset! + (i + 1) * 4096));
      }
      assert.ok(blocks >= 1 && blocks <= 16);
    }
    for (let i = 0; i < plan.zeroRuns.length; i += 2)
      for (let n = 0; n < plan.zeroRuns[i + 1]!; n++) got.set(plan.zeroRuns[i]! + n, undefined);
    const zeros = Buffer.alloc(4096);
    assert.equal(got.size, model.size);
    for (const [block, content] of model)
      assert.ok((got.get(block) ?? zeros).equals(content ?? zeros), `block ${block}`);
  }
});

test("long runs are cut at granules; scattered blocks share frames; zeros take none", () => {
  const content = Buffer.alloc(40 * 4096, 1);
  const changes: Change[] = [{ type: "data", block: 5, content }];
  for (let block = 100; block < 132; block += 2)
    changes.push({ type: "data", block, content: Buffer.alloc(4096, 2) });
  changes.push({ type: "data", block: 300, content: Buffer.alloc(10 * 4096) });
  const body = encodeChanges(changes, place);
  const plan = planBatch(body, parseBatch(body, limits).records);
  // 5..15 and 32..44 are left over: 11 + 13 blocks and 16 scattered ones fill 2.5 frames; 16..31 is a granule.
  assert.equal(plan.frameRuns.length, 4);
  assert.equal(plan.blockCount, 56);
  assert.deepEqual([...plan.zeroRuns], [300, 10]);
  const granule = [...plan.frameRuns].findIndex((runs, index) => {
    const first = plan.frameRuns.subarray(0, index).reduce((sum, count) => sum + count, 0);
    return runs === 1 && plan.runs[first * 3] === 16 && plan.runs[first * 3 + 1] === 16;
  });
  assert.ok(granule >= 0);
});
