import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { randomUuid } from "@osr/base/uuid";

import { FRAME_HEADER_BYTES, encodeFrame, frameBytesMax, prepareFrameContext } from "./frame.ts";
import { frameKeyOf, indexKeyOf } from "./key-schedule.ts";
import { OBJECT_HEADER_BYTES } from "./object-header.ts";
import {
  diskDescriptorName,
  recoveryPointName,
  segmentName,
  wrappedKeyName,
} from "./object-names.ts";
import { openPoint } from "./point-reader.ts";
import { type RecoveryPoint, encodeRecoveryPoint, listRecoveryPoints } from "./recovery-point.ts";
import { verifyRepository } from "./repository-check.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { checkSegment } from "./segment-check.ts";
import { SegmentBuilder } from "./segment-builder.ts";
import { SEGMENT_FOOTER_BYTES, decodeFooter } from "./segment-footer.ts";
import { AlteredStore, loadObjects } from "./testing/altered-store.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";
import { type TestDisk, TestVault } from "./testing/log-fixture.ts";
import { seededRandomness } from "./testing/seeded-randomness.ts";
import { temporaryStore } from "./testing/temporary-store.ts";

const E = REPOSITORY_ERRORS;
const DISK_BYTES = 64 * BLOCK_BYTES;

/** Two disks; on the first one segment 2 has three frames (two of one size), 3 is like 2, 4 ends with the tag. */
async function scene(at: Awaited<ReturnType<typeof temporaryStore>>): Promise<Scene> {
  const vault = new TestVault(at.store);
  const noise = seededRandomness("noise");
  const first = await vault.addDisk(DISK_BYTES);
  const second = await vault.addDisk(DISK_BYTES);
  for (const disk of [first, second])
    for (const fill of ["a", "b"])
      await disk.commit([
        { block: 0, bytes: noise.bytes(BLOCK_BYTES) },
        { block: 60, zeroCount: 1 },
        { block: 9, bytes: noise.bytes(BLOCK_BYTES) },
        { block: 61, zeroCount: 1 },
        { block: 3, bytes: Buffer.alloc(BLOCK_BYTES, fill) },
      ]);
  const point = await vault.cut(
    5,
    new Map([
      [first, [{ block: 20, bytes: Buffer.alloc(2 * BLOCK_BYTES, "tag") }]],
      [second, []],
    ]),
  );
  const names = [1, 2, 3, 4].map((seq) => segmentName(first.log, seq));
  const objects = await loadObjects(at.store, names);
  return { vault, first, second, point, objects, store: new AlteredStore(at.store) };
}

type Scene = {
  readonly vault: TestVault;
  readonly first: TestDisk;
  readonly second: TestDisk;
  readonly point: RecoveryPoint;
  readonly objects: Map<string, Buffer>;
  readonly store: AlteredStore;
};

async function readDisk({ store, first, point }: Scene): Promise<Buffer> {
  await using source = await openPoint(store, { ...first.log, point, dataKey: first.dataKey });
  const bytes = Buffer.alloc(DISK_BYTES);
  await source.read(0, bytes);
  return bytes;
}

async function findings(scene: Scene, withKeys: boolean): Promise<string[]> {
  const { vaultId, vaultKey } = scene.vault;
  const codes: string[] = [];
  const options = withKeys ? { vaultId, vaultKey } : { vaultId };
  let done = 0;
  for await (const event of verifyRepository(scene.store, options)) {
    if (event.kind === "finding") codes.push(event.code);
    else {
      assert.ok(event.bytesDone <= event.bytesTotal);
      done = event.objectsDone / event.objectsTotal;
    }
  }
  assert.equal(done, 1);
  return codes;
}

/** What the check without keys says about one segment of the first disk. */
async function problems({ store, first, objects }: Scene, seq: number): Promise<OsrError[]> {
  const found: OsrError[] = [];
  const sizeBytes = must(objects.get(segmentName(first.log, seq)), "segment").length;
  const check = checkSegment(store, {
    log: first.log,
    ref: { seq, sizeBytes },
    dataKeyOf: () => undefined,
    onProblem: (error) => found.push(error),
  });
  try {
    while ((await check.next()).done !== true);
  } catch (error) {
    assertCoded(error);
    found.push(error as OsrError);
  }
  return found;
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << (at % 8));
  return copy;
}

/** A header with `change` made and its checksum right again: what somebody without keys can do. */
function forgedHeader(object: Buffer, change: (bytes: Buffer) => void): Buffer {
  const copy = Buffer.from(object);
  change(copy);
  copy.writeUInt32LE(crc32(copy.subarray(0, 124)), 124);
  return copy;
}

test("an untouched vault has no findings, with and without keys", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  assert.deepEqual(await findings(here, false), []);
  assert.deepEqual(await findings(here, true), []);
  assert.equal(
    (await readDisk(here)).subarray(0, BLOCK_BYTES).every((byte) => byte === 0),
    false,
  );
});

test("a flipped bit anywhere in a segment is found, and never read as data", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const name = segmentName(here.first.log, 3);
  const object = must(here.objects.get(name), "segment 3");
  const { indexOffset } = decodeFooter(object.subarray(-SEGMENT_FOOTER_BYTES), object.length);
  const expected = await readDisk(here);
  let errors = 0;
  for (let offset = 0; offset < object.length; offset++) {
    const isFrameContent =
      offset > OBJECT_HEADER_BYTES + FRAME_HEADER_BYTES && offset < indexOffset - 64;
    if (isFrameContent && offset % 97 !== 0) continue;
    here.store.alter(name, flipped(object, offset));
    assert.notDeepEqual(await problems(here, 3), [], `byte ${offset} without keys`);
    try {
      const read = await readDisk(here);
      assert.ok(read.equals(expected), `byte ${offset} reads as other data`);
    } catch (error) {
      assertCoded(error);
      errors += 1;
    }
  }
  assert.ok(errors > 300, `${errors} errors`);
});

test("what was cut is damaged", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const name = segmentName(here.first.log, 3);
  const object = must(here.objects.get(name), "segment 3");
  for (const length of [0, 1, 127, 128, 255, 256, 4000, object.length - 1]) {
    here.store.alter(name, object.subarray(0, length));
    await assert.rejects(readDisk(here), coded(E.OBJECT_DAMAGED, E.FORMAT_UNKNOWN));
    assert.notDeepEqual(await findings(here, false), []);
  }
});

test("segments that were swapped or replayed do not read as others", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const { first, second, store } = here;
  const [two, three] = [2, 3].map((seq) =>
    must(here.objects.get(segmentName(first.log, seq)), `segment ${seq}`),
  );
  assert.ok(two !== undefined && three !== undefined);
  store.alter(segmentName(first.log, 3), two);
  await assert.rejects(readDisk(here), coded(E.OBJECT_MISPLACED));
  assert.ok((await findings(here, false)).includes("OBJECT_MISPLACED"));

  const foreign = await loadObjects(at.store, [segmentName(second.log, 3)]);
  store.alter(segmentName(first.log, 3), must([...foreign.values()][0], "foreign segment"));
  await assert.rejects(readDisk(here), coded(E.OBJECT_MISPLACED));

  // Old content under a header that claims the place, with the footer that the chain expects.
  assert.equal(two.length, three.length);
  const replayed = forgedHeader(two, (bytes) => bytes.writeUInt32LE(3, 64));
  three.copy(replayed, replayed.length - SEGMENT_FOOTER_BYTES, three.length - SEGMENT_FOOTER_BYTES);
  store.alter(segmentName(first.log, 3), replayed);
  await assert.rejects(readDisk(here), coded(E.INDEX_UNAUTHENTIC));
  assert.ok((await findings(here, false)).includes("OBJECT_DAMAGED"));

  const takenOver = forgedHeader(three, (bytes) => bytes.writeUInt32LE(9, 60));
  store.alter(segmentName(first.log, 3), takenOver);
  await assert.rejects(readDisk(here), coded(E.INDEX_UNAUTHENTIC));
});

test("frames of one size that were swapped inside a segment are found", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const name = segmentName(here.first.log, 3);
  const object = must(here.objects.get(name), "segment 3");
  const frame = frameBytesMax(1);
  const swapped = Buffer.from(object);
  object.copy(swapped, 128, 128 + frame, 128 + 2 * frame);
  object.copy(swapped, 128 + frame, 128, 128 + frame);
  here.store.alter(name, swapped);
  await assert.rejects(readDisk(here), coded(E.FRAME_DAMAGED));
  assert.deepEqual(await findings(here, false), ["FRAME_DAMAGED", "OBJECT_DAMAGED"]);
});

test("a log that misses a segment is broken", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  for (const seq of [1, 2, 4]) {
    here.store.restore();
    here.store.remove(segmentName(here.first.log, seq));
    await assert.rejects(readDisk(here), coded(E.LOG_BROKEN));
    const expected = seq === 4 ? "POINT_INVALID" : "LOG_BROKEN";
    assert.ok((await findings(here, false)).includes(expected));
  }
});

test("a newer format is named as such, a foreign one as well", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const name = segmentName(here.first.log, 2);
  const object = must(here.objects.get(name), "segment 2");
  const minReader = forgedHeader(object, (bytes) => bytes.writeUInt16LE(2, 6));
  const incompat = forgedHeader(object, (bytes) => bytes.writeUInt32LE(4, 16));
  for (const newer of [minReader, incompat]) {
    here.store.alter(name, newer);
    await assert.rejects(readDisk(here), coded(E.FORMAT_NEWER));
    assert.ok((await findings(here, false)).includes("FORMAT_NEWER"));
  }
  here.store.alter(name, Buffer.alloc(object.length, "PK"));
  await assert.rejects(readDisk(here), coded(E.FORMAT_UNKNOWN));
});

test("a wrong data key opens nothing", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const { first, point, store } = here;
  const wrong = { ...first.dataKey, bytes: Buffer.alloc(32, 1) };
  await assert.rejects(
    openPoint(store, { ...first.log, point, dataKey: wrong }),
    coded(E.DESCRIPTOR_INVALID),
  );
  const other = { ...first.dataKey, version: 2 };
  await assert.rejects(
    openPoint(store, { ...first.log, point, dataKey: other }),
    coded(E.KEY_VERSION_UNKNOWN),
  );
  const { vaultId } = here.vault;
  const codes: string[] = [];
  for await (const event of verifyRepository(store, { vaultId, vaultKey: Buffer.alloc(32, 9) }))
    if (event.kind === "finding") codes.push(event.code);
  assert.ok(codes.includes("KEY_UNAUTHENTIC"));
});

test("a changed byte of a small object is found by its reader and by verify", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const { vault, first, point, store } = here;
  const names = [
    recoveryPointName(vault.vaultId, vault.groupId, 5),
    diskDescriptorName(first.log),
    wrappedKeyName(vault.vaultId, first.diskId, 1),
  ];
  const objects = await loadObjects(at.store, names);
  for (const [name, object] of objects)
    for (let offset = 0; offset < object.length; offset += 23) {
      store.restore();
      store.alter(name, flipped(object, offset));
      assert.notDeepEqual(await findings(here, true), [], `${name} byte ${offset}`);
    }
  store.restore();
  const descriptor = must(objects.get(diskDescriptorName(first.log)), "descriptor").toString();
  const longer = descriptor.replace(`"sizeBytes":${DISK_BYTES}`, `"sizeBytes":${DISK_BYTES * 2}`);
  assert.notEqual(longer, descriptor);
  store.alter(diskDescriptorName(first.log), Buffer.from(longer));
  await assert.rejects(
    openPoint(store, { ...first.log, point, dataKey: first.dataKey }),
    coded(E.DESCRIPTOR_INVALID),
  );
});

test("points that are forged, moved or fuzzy are not offered", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const { vault, first, store, point } = here;
  const { vaultId, groupId } = vault;
  const fuzzy = await vault.cut(8, new Map([[first, []]]), "fuzzy");
  const list = () => listRecoveryPoints(store, { vaultId, groupKeys: () => vault.groupKey });
  assert.deepEqual(await list(), { offered: [point], fuzzy: [fuzzy], rejected: [] });
  const name = recoveryPointName(vaultId, groupId, 5);
  const [object] = (await loadObjects(at.store, [name])).values();
  const forged = must(object, "point").toString().replace('"seq":4', '"seq":3');
  store.alter(name, Buffer.from(forged));
  const { offered, rejected } = await list();
  assert.deepEqual(offered, []);
  assert.deepEqual(
    rejected.map(({ name, error }) => [name, error.code]),
    [[name, "POINT_INVALID"]],
  );
  store.alter(recoveryPointName(vaultId, groupId, 8), must(object, "point"));
  assert.equal((await list()).rejected.length, 2);
  await assert.rejects(
    openPoint(store, {
      vaultId,
      point,
      dataKey: first.dataKey,
      diskId: randomUuid(vault.randomness),
    }),
    (error) => error instanceof OsrError && error.code === "POINT_DISK_UNKNOWN",
  );
});

test("verify names objects that nobody of ours wrote", async () => {
  await using at = await temporaryStore();
  const here = await scene(at);
  const name = `v1/${here.vault.vaultId}/d/readme.txt`;
  const body = {
    sizeBytes: 2,
    open: async function* () {
      yield Buffer.from("hi");
    },
  };
  await at.store.create(name, body);
  assert.deepEqual(await findings(here, false), ["OBJECT_UNKNOWN"]);
});

test("a segment that forks the log is found, although it is authentic", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(DISK_BYTES);
  const block = Buffer.alloc(BLOCK_BYTES, "fork");
  const forkInside = disk.encode([{ block: 1, bytes: block }]);
  await disk.commit([{ block: 0, bytes: block }]);
  const earlier = await vault.cut(4, new Map([[disk, []]]));
  const tag = vault.tag(5, [disk]);
  const forkAtTip = disk.encode([{ block: 2, bytes: block }], { tag });
  const point = await vault.cut(5, new Map([[disk, []]]));
  const store = new AlteredStore(at.store);
  const here: Scene = { vault, first: disk, second: disk, point, objects: new Map(), store };
  assert.deepEqual(await findings(here, true), []);

  store.alter(segmentName(disk.log, 2), forkInside.bytes);
  await assert.rejects(readDisk(here), coded(E.LOG_BROKEN));
  assert.deepEqual(await findings(here, true), ["LOG_BROKEN"]);

  store.restore();
  store.alter(segmentName(disk.log, 4), forkAtTip.bytes);
  await assert.rejects(readDisk(here), coded(E.LOG_BROKEN));
  assert.deepEqual(await findings(here, false), ["POINT_INVALID"]);

  store.restore();
  const moved = { ...point, disks: earlier.disks };
  store.alter(recoveryPointName(vault.vaultId, vault.groupId, 5), encodeRecoveryPoint(moved));
  assert.deepEqual(await findings(here, false), ["POINT_INVALID"]);
});

test("verify holds the runs of an index against the frames", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(DISK_BYTES);
  const header = disk.nextHeader();
  const builder = new SegmentBuilder(header, indexKeyOf(disk.indexRoot, header.objectId));
  const target = Buffer.alloc(frameBytesMax(1));
  const plain = seededRandomness("run").bytes(BLOCK_BYTES);
  const key = frameKeyOf(disk.dataKey, header.objectId);
  const context = prepareFrameContext(header);
  encodeFrame({ plain, frameNo: 0, key, context, target, targetOffset: 0 });
  const offset = builder.append(target, 1);
  // Two blocks of a frame that has one.
  builder.runs.put(3, 2, 0, { frameNo: 0, offset, cipherBytes: BLOCK_BYTES });
  const { session, interval, intervalEnded } = disk.tip.meta;
  const end = builder.finish(disk.tip.head, { session, interval, intervalEnded });
  await disk.commitEncoded({ header, bytes: Buffer.concat([builder.headerBytes, target, end]) });
  const point = await vault.cut(1, new Map([[disk, []]]));
  const store = new AlteredStore(at.store);
  const here: Scene = { vault, first: disk, second: disk, point, objects: new Map(), store };
  assert.deepEqual(await findings(here, false), []);
  assert.deepEqual(await findings(here, true), ["INDEX_DAMAGED"]);
  await assert.rejects(readDisk(here), coded(E.FRAME_DAMAGED));
});
