import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { GIB, MIB } from "@osr/base/units";

import { materialisePoint } from "./materialise.ts";
import { segmentName } from "./object-names.ts";
import { STORE_ERRORS } from "./object-store.ts";
import { openPoint } from "./point-reader.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { AlteredStore, loadObjects } from "./testing/altered-store.ts";
import { type TestChange, type TestDisk, TestVault } from "./testing/log-fixture.ts";
import { temporaryStore } from "./testing/temporary-store.ts";
import { coded } from "./testing/coded-error.ts";

/** Content that shrinks, and content that does not. */
function content(seed: number, blocks: number): Buffer {
  const bytes = Buffer.alloc(blocks * BLOCK_BYTES, `content ${seed} `);
  if (seed % 3 === 0) systemRandomness.bytes(bytes.length).copy(bytes);
  return bytes;
}

/** Applies changes to the bytes of a disk, as the log does. */
function apply(disk: Buffer, changes: readonly TestChange[]): void {
  for (const change of changes) {
    const start = change.block * BLOCK_BYTES;
    if ("zeroCount" in change) disk.fill(0, start, start + change.zeroCount * BLOCK_BYTES);
    else change.bytes.copy(disk, start);
  }
}

function randomChanges(seed: number, blocks: number): TestChange[] {
  let state = seed * 7919 + 1;
  const next = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
  return Array.from({ length: 12 }, () => {
    const block = next(blocks - 40);
    return next(4) === 0
      ? { block, zeroCount: 1 + next(40) }
      : { block, bytes: content(next(9), 1 + next(20)) };
  });
}

const BLOCKS = 1000;

async function randomLog(disk: TestDisk, rounds: number): Promise<{ content: Buffer }> {
  const expected = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  for (let round = 0; round < rounds; round++) {
    const changes = randomChanges(round + 1, BLOCKS);
    apply(expected, changes);
    await disk.commit(changes);
    if (round === 3) await disk.claim();
  }
  return { content: expected };
}

test("a point reads as the changes before its tag say, at every offset, and later ones do not show", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES - 1536);
  const { content: expected } = await randomLog(disk, 8);
  const point = await vault.cut(7, new Map([[disk, []]]));
  await disk.commit([{ block: 0, bytes: content(1, 16) }]);
  const { store } = at;
  const { vaultId } = vault;
  await using source = await openPoint(store, {
    vaultId,
    point,
    diskId: disk.diskId,
    dataKey: disk.dataKey,
  });
  assert.equal(source.sizeBytes, BLOCKS * BLOCK_BYTES - 1536);
  const whole = Buffer.alloc(source.sizeBytes, 0xee);
  await source.read(0, whole);
  assert.ok(whole.equals(expected.subarray(0, source.sizeBytes)));
  for (const [offset, bytes] of [
    [0, 1],
    [4095, 2],
    [100_001, 70_001],
    [source.sizeBytes - 700, 700],
    [source.sizeBytes, 0],
  ] as const) {
    const part = Buffer.alloc(bytes, 0xee);
    await source.read(offset, part);
    assert.ok(part.equals(expected.subarray(offset, offset + bytes)), `${offset}+${bytes}`);
  }
});

test("a disk that has grown is as large as its point says, not as when it was enrolled", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4 * BLOCK_BYTES);
  const changes = [{ block: 6, bytes: content(1, 4) }];
  const cut = await vault.cut(7, new Map([[disk, changes]]));
  const point = {
    ...cut,
    disks: cut.disks.map((each) => ({ ...each, sizeBytes: 10 * BLOCK_BYTES - 512 })),
  };
  await using source = await openPoint(at.store, { ...disk.log, point, dataKey: disk.dataKey });
  assert.equal(source.sizeBytes, 10 * BLOCK_BYTES - 512);
  const part = Buffer.alloc(BLOCK_BYTES);
  await source.read(6 * BLOCK_BYTES, part);
  assert.ok(part.equals(content(1, 4).subarray(0, BLOCK_BYTES)));
});

test("extents cover the range without gaps and call zero only what is zero", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  const { content: expected } = await randomLog(disk, 5);
  const point = await vault.cut(7, new Map([[disk, []]]));
  await using source = await openPoint(at.store, { ...disk.log, point, dataKey: disk.dataKey });
  const [offset, bytes] = [10_001, 3 * MIB];
  const extents = await source.extents(offset, bytes);
  let end = offset;
  for (const extent of extents) {
    assert.equal(extent.offset, end);
    assert.ok(extent.bytes > 0);
    end += extent.bytes;
    if (extent.zero) assert.ok(expected.subarray(extent.offset, end).every((byte) => byte === 0));
  }
  assert.equal(end, offset + bytes);
  assert.ok(extents.some(({ zero }) => zero) && extents.some(({ zero }) => !zero));
});

test("a disk beyond 2 GiB is read and materialised at its far end", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const sizeBytes = 9 * GIB + 512;
  const disk = await vault.addDisk(sizeBytes);
  const last = Math.floor(sizeBytes / BLOCK_BYTES);
  const bytes = content(3, 3);
  const changes = [
    { block: last - 2, bytes },
    { block: 0, bytes: content(1, 1) },
  ];
  const point = await vault.cut(1, new Map([[disk, changes]]));
  const options = { ...disk.log, point, dataKey: disk.dataKey };
  await using source = await openPoint(at.store, options);
  const target = Buffer.alloc(BLOCK_BYTES + 512);
  await source.read(sizeBytes - target.length, target);
  assert.ok(target.equals(bytes.subarray(BLOCK_BYTES, 2 * BLOCK_BYTES + 512)));
  const path = join(at.directory, "out.raw");
  const result = await materialisePoint(at.store, { ...options, path });
  assert.deepEqual(result, { sizeBytes, dataBytes: 3 * BLOCK_BYTES + 512 });
  assert.equal((await stat(path)).size, sizeBytes);
});

test("materialise writes what the reader reads, reports its progress, and gives no name to a part", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES - 1536);
  const { content: expected } = await randomLog(disk, 8);
  const point = await vault.cut(7, new Map([[disk, []]]));
  const options = { ...disk.log, point, dataKey: disk.dataKey };
  const path = join(at.directory, "out.raw");
  await writeFile(`${path}.partial`, "left by a run that was killed");
  let done = 0;
  await materialisePoint(at.store, {
    ...options,
    path,
    onProgress({ doneBytes, totalBytes }) {
      assert.equal(totalBytes, BLOCKS * BLOCK_BYTES - 1536);
      assert.ok(doneBytes > done);
      done = doneBytes;
    },
  });
  assert.equal(done, BLOCKS * BLOCK_BYTES - 1536);
  const written = await readFile(path);
  assert.ok(written.equals(expected.subarray(0, written.length)));
  assert.equal(written.length, done);
  await assert.rejects(
    materialisePoint(at.store, { ...options, path }),
    coded(REPOSITORY_ERRORS.OUTPUT_EXISTS),
  );
  await at.store.delete(segmentName(disk.log, 4));
  const failing = join(at.directory, "failing.raw");
  await assert.rejects(
    materialisePoint(at.store, { ...options, path: failing }),
    coded(REPOSITORY_ERRORS.LOG_BROKEN),
  );
  await assert.rejects(readFile(failing), { code: "ENOENT" });
  await assert.rejects(readFile(`${failing}.partial`), { code: "ENOENT" });
});

test("an object that vanishes while a disk is open is an error, never zeros", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  const point = await vault.cut(7, new Map([[disk, [{ block: 5, bytes: content(1, 4) }]]]));
  const options = { ...disk.log, point, dataKey: disk.dataKey };
  await using source = await openPoint(at.store, options);
  await at.store.delete(segmentName(disk.log, 2));
  await assert.rejects(
    source.read(5 * BLOCK_BYTES, Buffer.alloc(10)),
    coded(STORE_ERRORS.OBJECT_NOT_FOUND),
  );
  const aborted = AbortSignal.abort(new Error("stopped"));
  await assert.rejects(source.read(0, Buffer.alloc(10), aborted), /stopped/);
});

test("a frame that is damaged ends a materialisation, which leaves nothing behind", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  await randomLog(disk, 3);
  const point = await vault.cut(7, new Map([[disk, []]]));
  const name = segmentName(disk.log, 3);
  const store = new AlteredStore(at.store);
  const [object] = (await loadObjects(at.store, [name])).values();
  const damaged = Buffer.from(object ?? "");
  damaged.fill(0xee, 300, 310);
  store.alter(name, damaged);
  const path = join(at.directory, "out.raw");
  const options = { ...disk.log, point, dataKey: disk.dataKey, path };
  await assert.rejects(materialisePoint(store, options), coded(REPOSITORY_ERRORS.FRAME_DAMAGED));
  await assert.rejects(stat(`${path}.partial`), { code: "ENOENT" });
  const stopped = new AbortController();
  const onProgress = (): void => stopped.abort(new Error("stopped"));
  await assert.rejects(
    materialisePoint(at.store, { ...options, signal: stopped.signal, onProgress }),
    /stopped/,
  );
  await assert.rejects(stat(`${path}.partial`), { code: "ENOENT" });
  await assert.rejects(stat(path), { code: "ENOENT" });
});

test("an existing device is overwritten, its old content zeroed", async (t) => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES - 512);
  const { content: expected } = await randomLog(disk, 4);
  const point = await vault.cut(7, new Map([[disk, []]]));
  const options = { ...disk.log, point, dataKey: disk.dataKey };
  const image = join(at.directory, "device.img");
  await writeFile(image, Buffer.alloc(BLOCKS * BLOCK_BYTES, 0xee));
  const attached = spawnSync("losetup", ["--find", "--show", image], { encoding: "utf8" });
  if (attached.status !== 0) return t.skip("losetup needs root and loop devices");
  const path = attached.stdout.trim();
  try {
    await materialisePoint(at.store, { ...options, path });
    await using device = await open(path, "r");
    const written = Buffer.alloc(BLOCKS * BLOCK_BYTES);
    await device.read(written, 0, written.length, 0);
    assert.ok(written.subarray(0, -512).equals(expected.subarray(0, -512)));
    assert.ok(written.subarray(-512).every((byte) => byte === 0xee));
    const larger = await vault.addDisk(BLOCKS * BLOCK_BYTES + 512);
    const largerPoint = await vault.cut(9, new Map([[larger, []]]));
    await assert.rejects(
      materialisePoint(at.store, {
        ...larger.log,
        point: largerPoint,
        dataKey: larger.dataKey,
        path,
      }),
      coded(REPOSITORY_ERRORS.OUTPUT_TOO_SMALL),
    );
  } finally {
    spawnSync("losetup", ["--detach", path]);
  }
});

test("many readers at once, and one that gives up, see the same disk", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  const { content: expected } = await randomLog(disk, 6);
  const point = await vault.cut(7, new Map([[disk, []]]));
  await using source = await openPoint(at.store, { ...disk.log, point, dataKey: disk.dataKey });
  const stopped = new AbortController();
  const given = source.read(0, Buffer.alloc(MIB), stopped.signal);
  const reads = Array.from({ length: 40 }, async (_, i) => {
    const target = Buffer.alloc(90_000);
    await source.read(i * 90_000, target);
    assert.ok(target.equals(expected.subarray(i * 90_000, (i + 1) * 90_000)));
  });
  stopped.abort(new Error("gave up"));
  await assert.rejects(given, /gave up/);
  await Promise.all(reads);
});
