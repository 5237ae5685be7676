import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { parseJson } from "@osr/base/json-shape";
import { claimGrantShape } from "@osr/contracts/claim-grant";

import { grantKeyOf, signClaimGrant } from "./claim-grant.ts";
import { decodeDiskDescriptor, encodeDiskDescriptor } from "./disk-descriptor.ts";
import {
  checkFrame,
  decodeFrame,
  encodeFrame,
  frameBytesMax,
  prepareFrameContext,
} from "./frame.ts";
import { frameKeyOf, groupKeyOf, indexKeyOf, indexRootOf } from "./key-schedule.ts";
import { readLogEnd, readLogTip } from "./log-end.ts";
import { openSegment } from "./log-segment.ts";
import { decodeObjectHeader, encodeObjectHeader } from "./object-header.ts";
import {
  diskDescriptorName,
  recoveryPointName,
  segmentName,
  wrappedKeyName,
} from "./object-names.ts";
import { bodyOf } from "./object-store.ts";
import { openPoint } from "./point-reader.ts";
import { decodeRecoveryPoint, encodeRecoveryPoint, recoveryPointOf } from "./recovery-point.ts";
import { verifyRepository } from "./repository-check.ts";
import { decodeSealedState } from "./sealed-state.ts";
import { SegmentBuilder } from "./segment-builder.ts";
import {
  NO_HEAD,
  SEGMENT_FOOTER_BYTES,
  decodeFooter,
  encodeFooter,
  headOf,
} from "./segment-footer.ts";
import { decodeDirectory, openShard } from "./segment-index.ts";
import {
  GOLDEN_DATA_KEY,
  GOLDEN_DESCRIPTOR,
  GOLDEN_DISK_BYTES,
  GOLDEN_FENCE_META,
  GOLDEN_GROUP_ID,
  GOLDEN_LOG,
  GOLDEN_META,
  GOLDEN_NOISE,
  GOLDEN_NOISE_BLOCK,
  GOLDEN_NONCE,
  GOLDEN_SEALED,
  GOLDEN_TAG,
  GOLDEN_TEXT,
  GOLDEN_TEXT_BLOCK,
  GOLDEN_VAULT_KEY,
  GOLDEN_ZERO_BLOCK,
  goldenHeader,
} from "./testing/golden-values.ts";
import { temporaryStore } from "./testing/temporary-store.ts";
import { unwrapDataKey, wrapDataKey } from "./wrapped-key.ts";

/** What zstd writes may change with its version: where it is used, old bytes are decoded and not compared. */
function golden(path: string): Promise<Buffer> {
  return readFile(join(import.meta.dirname, "../../../interop", path));
}

const indexRoot = indexRootOf(GOLDEN_DATA_KEY);
const groupKey = groupKeyOf(GOLDEN_VAULT_KEY, GOLDEN_GROUP_ID);
const header = goldenHeader(2);
const frameKey = frameKeyOf(GOLDEN_DATA_KEY, header.objectId);
const owner = { header, indexKey: indexKeyOf(indexRoot, header.objectId) };
const context = prepareFrameContext(header);
const keyId = { vaultKey: GOLDEN_VAULT_KEY, ...GOLDEN_LOG };

test("object-header/v1", async () => {
  const bytes = await golden("object-header/v1/header.bin");
  assert.deepEqual(decodeObjectHeader(bytes), header);
  assert.ok(encodeObjectHeader(header).equals(bytes));
});

test("frame/v1", async () => {
  const asIs = await golden("frame/v1/as-is.bin");
  assert.ok(decodeFrame({ bytes: asIs, key: frameKey, context, frameNo: 0 }).equals(GOLDEN_NOISE));
  const target = Buffer.alloc(frameBytesMax(1));
  encodeFrame({ plain: GOLDEN_NOISE, frameNo: 0, key: frameKey, context, target, targetOffset: 0 });
  assert.ok(target.equals(asIs));
  const zstd = await golden("frame/v1/zstd.bin");
  assert.ok(decodeFrame({ bytes: zstd, key: frameKey, context, frameNo: 1 }).equals(GOLDEN_TEXT));
  assert.deepEqual(checkFrame(zstd, 0).blocks, 2);
});

test("index/v1", async () => {
  const bytes = await golden("index/v1/index.bin");
  const footer = decodeFooter(await golden("footer/v1/footer.bin"), await segmentBytes());
  const sealed = bytes.subarray(0, footer.directoryBytes);
  const directory = decodeDirectory(sealed, owner, footer.indexBytes - footer.directoryBytes);
  assert.deepEqual(directory.meta, GOLDEN_META);
  assert.equal(directory.shardCount, 2);
  const runs = [0, 1].map((index) => {
    const entry = directory.shardAt(index);
    const start = footer.directoryBytes + entry.offset;
    const shard = bytes.subarray(start, start + entry.sealedBytes);
    const table = openShard(shard, entry, owner, { framesEnd: footer.indexOffset, source: 0 });
    return Array.from({ length: table.length }, (_, row) => [
      table.starts[row],
      table.counts[row],
      table.isZero(row) ? "zero" : `${table.frameNos[row]}@${table.frameOffset(row)}`,
    ]);
  });
  assert.deepEqual(runs, [
    [
      [GOLDEN_NOISE_BLOCK, 1, "0@128"],
      [GOLDEN_ZERO_BLOCK, 2, "zero"],
    ],
    [[GOLDEN_TEXT_BLOCK, 2, `1@${128 + frameBytesMax(1)}`]],
  ]);
});

test("footer/v1", async () => {
  const bytes = await golden("footer/v1/footer.bin");
  const footer = decodeFooter(bytes, await segmentBytes());
  const { isFence, endsWithTag, frameCount, runCount, zeroRunCount, slot } = footer;
  assert.deepEqual(
    { isFence, endsWithTag, frameCount, runCount, zeroRunCount, slot },
    {
      isFence: false,
      endsWithTag: true,
      frameCount: 2,
      runCount: 2,
      zeroRunCount: 1,
      slot: GOLDEN_TAG.slot,
    },
  );
  assert.ok(encodeFooter(footer).equals(bytes));
  const fence = await golden("segment/v1/fence.seg");
  assert.ok(footer.previousHead.equals(headOf(fence.subarray(-SEGMENT_FOOTER_BYTES))));
});

test("recovery-point/v1", async () => {
  const footer = await golden("footer/v1/footer.bin");
  const bytes = await golden("recovery-point/v1/point.bin");
  const positions = [{ ...GOLDEN_LOG, seq: 2, head: headOf(footer) }];
  const point = recoveryPointOf(GOLDEN_TAG, positions, groupKey);
  assert.deepEqual(decodeRecoveryPoint(bytes, groupKey), point);
  assert.ok(encodeRecoveryPoint(point).equals(bytes));
});

test("disk-descriptor and wrapped-key, v1", async () => {
  const descriptor = await golden("recovery-point/v1/disk.bin");
  assert.deepEqual(decodeDiskDescriptor(descriptor, indexRoot), GOLDEN_DESCRIPTOR);
  assert.ok(encodeDiskDescriptor(GOLDEN_DESCRIPTOR, indexRoot).equals(descriptor));
  const key = await golden("recovery-point/v1/wrapped-key.bin");
  assert.deepEqual(unwrapDataKey(key, keyId, 1), GOLDEN_DATA_KEY);
  assert.ok(wrapDataKey(GOLDEN_DATA_KEY, keyId, GOLDEN_NONCE).equals(key));
});

test("sealed-state/v1", async () => {
  const id = { vaultId: GOLDEN_LOG.vaultId, vaultKey: GOLDEN_VAULT_KEY, number: 1 };
  assert.deepEqual(
    decodeSealedState(await golden("sealed-state/v1/sealed.bin"), id),
    GOLDEN_SEALED,
  );
});

test("claim-grant and timeline, v1", async () => {
  await using at = await temporaryStore();
  const child = { ...GOLDEN_LOG, timeline: 2 };
  const grant = parseJson((await golden("claim-grant/v1/grant.bin")).toString(), claimGrantShape);
  assert.deepEqual(signClaimGrant(GOLDEN_VAULT_KEY, GOLDEN_LOG, 3), grant);
  const descriptor = await golden("timeline/v1/disk.bin");
  const parent = { timeline: 1, seq: 4, cause: "tampering" } as const;
  const described = { ...GOLDEN_DESCRIPTOR, timeline: 2, parent };
  assert.deepEqual(decodeDiskDescriptor(descriptor, indexRoot), described);
  assert.ok(encodeDiskDescriptor(described, indexRoot).equals(descriptor));
  const objects = {
    [diskDescriptorName(GOLDEN_LOG)]: "recovery-point/v1/disk.bin",
    [segmentName(GOLDEN_LOG, 1)]: "segment/v1/fence.seg",
    [segmentName(GOLDEN_LOG, 2)]: "segment/v1/segment.seg",
    [segmentName(GOLDEN_LOG, 3)]: "claim-grant/v1/failover.seg",
    [segmentName(GOLDEN_LOG, 4)]: "claim-grant/v1/handover.seg",
    [diskDescriptorName(child)]: "timeline/v1/disk.bin",
    [segmentName(child, 1)]: "timeline/v1/fence.seg",
  };
  for (const [name, path] of Object.entries(objects))
    await at.store.create(name, bodyOf(await golden(path)));
  const failover = await golden("claim-grant/v1/failover.seg");
  const ref = { seq: 3, sizeBytes: failover.length };
  const { directory } = await openSegment(at.store, GOLDEN_LOG, ref, { indexRoot });
  const { kind, grantKey } = directory.meta.fence ?? {};
  assert.deepEqual([kind, grantKey], ["failover", grantKeyOf(GOLDEN_VAULT_KEY)]);
  const tip = await readLogTip(at.store, GOLDEN_LOG, indexRoot);
  assert.deepEqual(
    [tip?.generation, tip?.meta.fence?.kind, tip?.meta.fence?.grant],
    [3, "handover", grant.signature],
  );
  const { tip: first, base } = await readLogEnd(at.store, child, indexRoot);
  assert.equal(first?.owner.header.generation, 4);
  assert.equal(base?.seq, 4);
  assert.ok(first.footer.previousHead.equals(base.head));
});

test("segment/v1: a whole vault of old bytes verifies and reads", async () => {
  await using at = await temporaryStore();
  const { vaultId, diskId } = GOLDEN_LOG;
  const objects = {
    [wrappedKeyName(vaultId, diskId, 1)]: "recovery-point/v1/wrapped-key.bin",
    [diskDescriptorName(GOLDEN_LOG)]: "recovery-point/v1/disk.bin",
    [segmentName(GOLDEN_LOG, 1)]: "segment/v1/fence.seg",
    [segmentName(GOLDEN_LOG, 2)]: "segment/v1/segment.seg",
    [recoveryPointName(vaultId, GOLDEN_GROUP_ID, GOLDEN_TAG.slot)]: "recovery-point/v1/point.bin",
  };
  for (const [name, path] of Object.entries(objects))
    await at.store.create(name, bodyOf(await golden(path)));
  for await (const event of verifyRepository(at.store, { vaultId, vaultKey: GOLDEN_VAULT_KEY }))
    assert.equal(event.kind, "progress", JSON.stringify(event));
  const point = decodeRecoveryPoint(await golden("recovery-point/v1/point.bin"), groupKey);
  const options = { ...GOLDEN_LOG, point, dataKey: GOLDEN_DATA_KEY };
  await using source = await openPoint(at.store, options);
  assert.equal(source.sizeBytes, GOLDEN_DISK_BYTES);
  const start = Buffer.alloc(10 * BLOCK_BYTES, 1);
  await source.read(0, start);
  const expected = Buffer.alloc(start.length);
  GOLDEN_NOISE.copy(expected, GOLDEN_NOISE_BLOCK * BLOCK_BYTES);
  assert.ok(start.equals(expected));
  const end = Buffer.alloc(BLOCK_BYTES + 512);
  await source.read(GOLDEN_TEXT_BLOCK * BLOCK_BYTES, end);
  assert.ok(end.equals(GOLDEN_TEXT.subarray(0, end.length)));
});

test("a segment that is written now has the layout of the old one", async () => {
  const old = await golden("segment/v1/segment.seg");
  const fence = await golden("segment/v1/fence.seg");
  const builder = new SegmentBuilder(header, owner.indexKey);
  assert.ok(old.subarray(0, 128).equals(builder.headerBytes));
  const frames = [await golden("frame/v1/as-is.bin"), await golden("frame/v1/zstd.bin")];
  const blocks = [GOLDEN_NOISE_BLOCK, GOLDEN_TEXT_BLOCK];
  frames.forEach((frame, frameNo) => {
    const { blocks: count, cipherBytes } = checkFrame(frame, 0);
    const offset = builder.append(frame, 1);
    assert.ok(old.subarray(offset, offset + frame.length).equals(frame));
    builder.runs.put(blocks[frameNo] ?? 0, count, 0, { frameNo, offset, cipherBytes });
  });
  builder.runs.putZero(GOLDEN_ZERO_BLOCK, 2);
  const end = builder.finish(headOf(fence.subarray(-SEGMENT_FOOTER_BYTES)), GOLDEN_META);
  const written = decodeFooter(end.subarray(-SEGMENT_FOOTER_BYTES), builder.sizeBytes);
  const read = decodeFooter(old.subarray(-SEGMENT_FOOTER_BYTES), old.length);
  assert.equal(written.indexOffset, read.indexOffset);
  assert.ok(written.previousHead.equals(read.previousHead));

  const first = decodeFooter(fence.subarray(-SEGMENT_FOOTER_BYTES), fence.length);
  assert.ok(first.isFence && first.previousHead.equals(NO_HEAD));
  const fenceHeader = goldenHeader(1);
  const fenceOwner = {
    header: fenceHeader,
    indexKey: indexKeyOf(indexRoot, fenceHeader.objectId),
  };
  const sealed = fence.subarray(first.indexOffset, first.indexOffset + first.directoryBytes);
  assert.deepEqual(decodeDirectory(sealed, fenceOwner, 0).meta, GOLDEN_FENCE_META);
});

async function segmentBytes(): Promise<number> {
  return (await golden("segment/v1/segment.seg")).length;
}
