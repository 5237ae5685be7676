import assert from "node:assert/strict";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { uuidOfName } from "@osr/base/uuid";
import { decodeFrame, prepareFrameContext } from "@osr/repository/frame";

import { planBatch } from "./batch-plan.ts";
import { parseBatch } from "./batch.ts";
import { type EncodeJob, encodeBatch } from "./encode-batch.ts";
import { Dice, randomChange } from "./model-disk.contract.ts";
import { encodeChanges } from "./test-agent.contract.ts";
import { WorkerEncoder } from "./worker-encoder.ts";

const origin = {
  vaultId: uuidOfName("vault"),
  diskId: uuidOfName("disk"),
  timeline: 1,
  objectId: uuidOfName("object"),
};
const frameKey = Buffer.alloc(32, 9);

function jobOf(seed: number): EncodeJob {
  const dice = new Dice(seed);
  const changes = Array.from({ length: 1 + dice.below(10) }, () => randomChange(dice, 500));
  const body = encodeChanges(changes, { session: 1, interval: 1, recordNo: 0 });
  const plan = planBatch(body, parseBatch(body, { diskSizeBytes: 500 * 4096 }).records);
  return { body: new Uint8Array(body), plan, frameKey, origin, frameNoFirst: seed * 1000 };
}

test("threads give the same frames as the calling thread, to whom they belong", async () => {
  await using encoder = new WorkerEncoder(silentLog);
  const seeds = Array.from({ length: 20 }, (_, index) => index);
  const encoded = await Promise.all(seeds.map((seed) => encoder.encode(jobOf(seed))));
  for (const [seed, { bytes, frames }] of encoded.entries()) {
    const expected = encodeBatch(jobOf(seed));
    assert.deepEqual(Buffer.from(bytes), Buffer.from(expected.bytes));
    assert.deepEqual(frames, expected.frames);
  }
});

test("frames decode to the blocks of their runs", () => {
  const job = jobOf(3);
  const { bytes, frames } = encodeBatch(job);
  let offset = 0;
  let run = 0;
  const source = Buffer.from(bytes);
  for (let index = 0; index < frames.length; index += 2) {
    const plain = decodeFrame({
      bytes: source,
      offset,
      key: frameKey,
      context: prepareFrameContext(origin),
      frameNo: job.frameNoFirst + index / 2,
    });
    let at = 0;
    for (const end = run + frames[index + 1]!; run < end; run++) {
      const [, count, from] = job.plan.runs.subarray(run * 3, run * 3 + 3);
      const content = Buffer.from(job.body).subarray(from, from! + count! * 4096);
      assert.ok(plain.subarray(at, at + content.length).equals(content));
      at += content.length;
    }
    assert.equal(at, plain.length);
    offset += Math.ceil((24 + frames[index]! + 16) / 16) * 16;
  }
  assert.equal(offset, source.length);
});

test("a job that cannot be done fails alone; a stopped encoder refuses", async () => {
  const encoder = new WorkerEncoder(silentLog);
  const broken = { ...jobOf(1), frameKey: new Uint8Array(5) };
  await assert.rejects(encoder.encode(broken), { code: "ENCODER_FAILED" });
  await encoder.encode(jobOf(2));
  await encoder[Symbol.asyncDispose]();
  await assert.rejects(encoder.encode(jobOf(2)), { code: "ENCODER_FAILED" });
});
