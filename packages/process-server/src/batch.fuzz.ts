import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { hasCode } from "@osr/base/errors";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";
import { HRL_ERRORS, HRL_HEADER_BYTES, HRL_TYPES } from "@osr/contracts/hrl-record";

import { planBatch } from "./batch-plan.ts";
import { type Batch, parseBatch, tagOf } from "./batch.ts";
import { Dice, randomChange } from "./model-disk.contract.ts";
import { type Change, encodeChanges } from "./test-agent.contract.ts";

const BLOCKS = 500;
const limits = { diskSizeBytes: BLOCKS * 4096 };
const diskId = uuidOfName("disk");
const tag = { groupId: diskId, slot: 1, cutId: diskId, class: "crash", unixMs: 0 } as const;

function batchOf(seed: number, count: number, isTagged: boolean): Buffer {
  const dice = new Dice(seed);
  const changes: Change[] = Array.from({ length: count }, () => randomChange(dice, BLOCKS));
  if (isTagged) changes.push({ type: "mark", tag: { ...tag, disks: [diskId] } }, { type: "end" });
  return encodeChanges(changes, { session: 1, interval: 1, recordNo: 0 });
}

/** Sets the checksums of what looks like records right, so that fields are tried and not only checksums. */
function resealed(batch: Buffer): Buffer {
  for (let at = 0; at + HRL_HEADER_BYTES <= batch.length;) {
    const start = at + HRL_HEADER_BYTES;
    const payload = batch.subarray(start, start + batch.readUInt32LE(at + 36));
    batch.writeUInt32LE(crc32(payload), at + 40);
    batch.writeUInt32LE(crc32(batch.subarray(at, at + 60)), at + 60);
    at = start + payload.length;
  }
  return batch;
}

/** What may reach the spool: one session and interval, numbers without a gap, blocks of the disk. */
function checkTaken({ records, ...batch }: Batch, body: Buffer): void {
  records.forEach(({ header }, index) => {
    const { session, interval, recordNo, type, block, count } = header;
    assert.deepEqual([session, interval], [batch.session, batch.interval]);
    assert.equal(recordNo, batch.firstRecordNo + index);
    if (type === HRL_TYPES.DATA || type === HRL_TYPES.ZERO) assert.ok(block + count <= BLOCKS);
  });
  const plan = planBatch(body, records);
  for (let run = 0; run < plan.runs.length; run += 3) {
    const [block, count, offset] = plan.runs.subarray(run, run + 3);
    assert.ok(block! + count! <= BLOCKS && offset! + count! * 4096 <= body.length);
  }
}

export const batchFuzz = fuzzTarget(
  "batch",
  "bodies of batches, with wrong and with right checksums: HRL_INVALID, or one interval within the disk",
  fc.property(
    fc.nat(1000),
    fc.nat(6),
    fc.boolean(),
    fc.boolean(),
    mutations,
    (seed, count, isTagged, isResealed, changes) => {
      const bad = mutated(batchOf(seed, count, isTagged), changes);
      const body = isResealed ? resealed(bad) : bad;
      try {
        const batch = parseBatch(body, limits);
        for (const record of batch.records)
          if (record.header.type === HRL_TYPES.MARK) tagOf(record);
        checkTaken(batch, body);
      } catch (error) {
        if (!hasCode(error, HRL_ERRORS.HRL_INVALID)) throw error;
      }
    },
  ),
);
