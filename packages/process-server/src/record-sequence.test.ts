import assert from "node:assert/strict";
import { test } from "node:test";

import { uuid } from "@osr/base/uuid";
import { HRL_TYPES, type HrlRecord, type HrlType } from "@osr/contracts/hrl-record";
import { type Tag, encodeTag } from "@osr/contracts/tag";

import type { Batch } from "./batch.ts";
import { RecordSequence } from "./record-sequence.ts";

const { ZERO, MARK, END } = HRL_TYPES;
const id = uuid("00000000-0000-4000-8000-000000000001");
const tag: Tag = { groupId: id, slot: 7, cutId: id, class: "crash", unixMs: 0, disks: [id] };

function batch(interval: number, firstRecordNo: number, ...types: HrlType[]): Batch {
  const records: HrlRecord[] = types.map((type, index) => ({
    header: {
      type,
      session: 1,
      interval,
      recordNo: firstRecordNo + index,
      block: 0,
      count: type === ZERO ? 1 : type === END ? firstRecordNo + index : 0,
      payloadBytes: 0,
      payloadCrc32: 0,
    },
    payload: type === MARK ? encodeTag(tag) : Buffer.alloc(0),
  }));
  const lastRecordNo = firstRecordNo + types.length - 1;
  return { session: 1, interval, firstRecordNo, lastRecordNo, records };
}

function taken(sequence: RecordSequence, next: Batch): ReturnType<RecordSequence["take"]> {
  const verdict = sequence.classify(next);
  assert.equal(verdict.kind, "take");
  return sequence.take(next, "skip" in verdict ? verdict.skip : 0);
}

test("batches are taken in order; what is there is known; what is ahead is early", () => {
  const sequence = new RecordSequence(5);
  assert.deepEqual(sequence.position, { interval: 5, recordNo: 0 });
  assert.deepEqual(sequence.classify(batch(5, 2, ZERO)), { kind: "early" });
  assert.deepEqual(taken(sequence, batch(5, 0, ZERO, ZERO)), { ended: false });
  assert.deepEqual(sequence.classify(batch(5, 0, ZERO)), { kind: "known" });
  assert.deepEqual(sequence.classify(batch(5, 1, ZERO, ZERO)), { kind: "take", skip: 1 });
  assert.deepEqual(taken(sequence, batch(5, 2, ZERO, END)), { ended: true });
  assert.deepEqual(sequence.position, { interval: 6, recordNo: 0 });
  assert.deepEqual(sequence.classify(batch(5, 2, ZERO, END)), { kind: "known" });
});

test("an ended interval takes nothing more; numbers below the session's are refused", () => {
  const sequence = new RecordSequence(5);
  taken(sequence, batch(5, 0, END));
  assert.throws(() => sequence.classify(batch(5, 1, ZERO)), { code: "HRL_INVALID" });
  assert.throws(() => sequence.classify(batch(4, 0, ZERO)), {
    code: "RECORDS_OUT_OF_ORDER",
    details: { interval: 6, recordNo: 0 },
  });
});

test("a higher interval abandons the one that is open", () => {
  const sequence = new RecordSequence(1);
  taken(sequence, batch(1, 0, ZERO, ZERO));
  taken(sequence, batch(3, 0, ZERO));
  assert.deepEqual(sequence.classify(batch(1, 1, ZERO)), { kind: "known" });
  // Never acknowledged though it was never taken in.
  assert.throws(() => sequence.classify(batch(1, 2, ZERO)), { code: "RECORDS_OUT_OF_ORDER" });
  assert.throws(() => sequence.classify(batch(2, 0, ZERO)), { code: "RECORDS_OUT_OF_ORDER" });
});

test("a MARK gives its tag to the END, also over two batches, and nothing comes between", () => {
  const sequence = new RecordSequence(1);
  assert.deepEqual(taken(sequence, batch(1, 0, ZERO, MARK, END)), { ended: true, tag });
  assert.deepEqual(taken(sequence, batch(2, 0, ZERO, MARK)), { ended: false, tag });
  assert.throws(() => taken(sequence, batch(2, 2, ZERO)), { code: "HRL_INVALID" });
  assert.deepEqual(taken(sequence, batch(2, 2, END)), { ended: true, tag });
});

test("a sequence goes on after a record that is durable", () => {
  const last = { session: 1, interval: 4, recordNo: 6, ended: false, tag };
  const marked = RecordSequence.after(last);
  assert.deepEqual(marked.position, { interval: 4, recordNo: 7 });
  assert.deepEqual(marked.classify(batch(4, 5, ZERO, ZERO)), { kind: "known" });
  assert.deepEqual(marked.classify(batch(4, 6, ZERO, END)), { kind: "take", skip: 1 });
  assert.throws(() => taken(marked, batch(4, 7, ZERO)), { code: "HRL_INVALID" });
  assert.deepEqual(taken(marked, batch(4, 7, END)), { ended: true, tag });
  const ended = RecordSequence.after({ ...last, ended: true });
  assert.deepEqual(ended.classify(batch(4, 0, ZERO, END)), { kind: "known" });
  assert.deepEqual(ended.position, { interval: 5, recordNo: 0 });
  assert.throws(() => ended.classify(batch(3, 0, END)), { code: "RECORDS_OUT_OF_ORDER" });
});

test("a copy goes on by itself", () => {
  const sequence = new RecordSequence(1);
  taken(sequence, batch(1, 0, ZERO));
  const copy = sequence.copy();
  taken(sequence, batch(1, 1, ZERO));
  assert.deepEqual(copy.position, { interval: 1, recordNo: 1 });
  assert.deepEqual(sequence.position, { interval: 1, recordNo: 2 });
});
