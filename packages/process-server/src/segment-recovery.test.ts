import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { randomUuid, uuidOfName } from "@osr/base/uuid";
import { indexRootOf } from "@osr/repository/key-schedule";

import { planBatch } from "./batch-plan.ts";
import { parseBatch } from "./batch.ts";
import { contentOf } from "./closed-segment.ts";
import { CONTENT_MAC_KEY_BYTES } from "./content-mac.ts";
import { encodeBatch } from "./encode-batch.ts";
import { Dice, randomChange } from "./model-disk.contract.ts";
import { OpenSegment } from "./open-segment.ts";
import { type SegmentKeys, planSegment } from "./segment-plan.ts";
import { readClosedSegment, recoverSegment } from "./segment-recovery.ts";
import { segmentPaths } from "./spool-layout.ts";
import { encodeChanges } from "./test-agent.contract.ts";

const diskId = uuidOfName("disk");
const dataKey = { diskId, version: 1, bytes: Buffer.alloc(32, 7) };
const keys: SegmentKeys = {
  log: { vaultId: uuidOfName("vault"), diskId, timeline: 1 },
  dataKey,
  indexRoot: indexRootOf(dataKey),
};
const MAC_KEY = systemRandomness.bytes(CONTENT_MAC_KEY_BYTES);
const META = { session: 3, interval: 8, intervalEnded: 8 };

type Ends = { readonly seg: number; readonly jnl: number };

/** A segment with some batches; where each of them ends in both files. */
async function written(folder: string, dice: Dice) {
  const plan = planSegment(keys, {
    seq: 5,
    generation: 2,
    objectId: randomUuid(systemRandomness),
    createdUnixMs: systemClock.unixMs(),
  });
  const paths = segmentPaths(folder, plan.header);
  const segment = await OpenSegment.create(plan, paths, META, MAC_KEY);
  const ends: Ends[] = [];
  let frameNoFirst = 0;
  for (let n = 0; n < 6; n++) {
    const changes = Array.from({ length: 1 + dice.below(5) }, () => randomChange(dice, 400));
    const body = encodeChanges(changes, { session: 4, interval: 9, recordNo: 10 * n });
    const batch = parseBatch(body, { diskSizeBytes: 400 * 4096 });
    const batchPlan = planBatch(body, batch.records);
    const encoded = encodeBatch({
      body: new Uint8Array(body),
      plan: batchPlan,
      frameKey: plan.frameKey,
      origin: plan.origin,
      frameNoFirst,
    });
    frameNoFirst += batchPlan.frameRuns.length;
    const runs = Uint32Array.from([...batchPlan.runs].filter((_, field) => field % 3 !== 2));
    const { session, interval, firstRecordNo, lastRecordNo } = batch;
    await segment.append(
      {
        session,
        interval,
        firstRecordNo,
        lastRecordNo,
        ended: false,
        runs,
        zeroRuns: batchPlan.zeroRuns,
      },
      encoded,
    );
    await segment.sync();
    ends.push({ seg: segment.sizeBytes, jnl: (await stat(paths.jnl)).size });
  }
  return { plan, paths, segment, ends };
}

test("a torn segment is cut after its last whole batch, wherever it was torn", async () => {
  const folder = await mkdtemp(join(tmpdir(), "osr-recovery-"));
  try {
    for (let seed = 1; seed <= 40; seed++) {
      const dice = new Dice(seed);
      const { plan, paths, segment, ends } = await written(folder, dice);
      await segment[Symbol.asyncDispose]();
      const last = ends.at(-1)!;
      const [segThen, jnlThen] = await Promise.all([readFile(paths.seg), readFile(paths.jnl)]);
      const cut = { seg: 128 + dice.below(last.seg - 127), jnl: dice.below(last.jnl + 1) };
      if (dice.chance(0.3)) cut.seg = last.seg;
      if (dice.chance(0.3)) cut.jnl = last.jnl;
      // Either the end of a file is missing, or what is there of it was never written (zeros).
      for (const [path, at, end] of [
        [paths.seg, cut.seg, last.seg],
        [paths.jnl, cut.jnl, last.jnl],
      ] as const) {
        await truncate(path, at);
        if (dice.chance(0.3)) await truncate(path, end);
      }
      const [segNow, jnlNow] = await Promise.all([readFile(paths.seg), readFile(paths.jnl)]);
      const isWhole = ({ seg, jnl }: Ends): boolean =>
        segNow.subarray(0, seg).equals(segThen.subarray(0, seg)) &&
        jnlNow.subarray(0, jnl).equals(jnlThen.subarray(0, jnl));
      const whole = ends.filter(isWhole).at(-1);
      const recovered = await recoverSegment(paths, plan, META);
      if (whole === undefined) {
        assert.equal(recovered, undefined, `seed ${seed}: no batch was whole`);
        continue;
      }
      assert.equal(recovered?.footer.indexOffset, whole.seg, `seed ${seed}`);
      assert.deepEqual(recovered.meta, { session: 4, interval: 9, intervalEnded: 8 });
      // It is closed now, and says the same when it is read again or recovered once more.
      const again = await readClosedSegment(paths, keys, plan.header, true);
      assert.deepEqual(again?.footerBytes, recovered.footerBytes);
      const oncemore = await recoverSegment(paths, plan, META);
      assert.deepEqual(oncemore?.footerBytes, recovered.footerBytes);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a segment that was closed is not taken for closed when its tail is damaged", async () => {
  const folder = await mkdtemp(join(tmpdir(), "osr-recovery-"));
  try {
    const { plan, paths, segment } = await written(folder, new Dice(77));
    const closed = await segment.close();
    await segment[Symbol.asyncDispose]();
    for await (const piece of contentOf(closed)) assert.ok(piece.length > 0);
    assert.ok((await readClosedSegment(paths, keys, plan.header, true)) !== undefined);
    const handle = await open(paths.seg, "r+");
    // The shards after the directory: only the hash over all content covers them here.
    await handle.write(Buffer.from([1, 2, 3, 4]), 0, 4, closed.sizeBytes - 128 - 8);
    await handle.close();
    assert.equal(await readClosedSegment(paths, keys, plan.header, true), undefined);
    const recovered = await recoverSegment(paths, plan, META);
    assert.deepEqual(recovered?.footerBytes, closed.footerBytes);
  } finally {
    await rm(folder, { recursive: true });
  }
});
