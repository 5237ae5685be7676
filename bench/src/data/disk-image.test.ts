import assert from "node:assert/strict";
import { mkdtemp, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { zstdCompressSync } from "node:zlib";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";

import { SMALL_SCALE } from "../scale.ts";
import { applyChanges, changedBlocks, clusteredChanges } from "./change-set.ts";
import { deltaFloorBytes } from "./delta-floor.ts";
import { makeDiskImage } from "./disk-image.ts";
import { SeededBytes } from "./seeded-bytes.ts";

const SCALE = {
  ...SMALL_SCALE,
  diskBytes: 24 * MIB,
  fileBytes: 6 * MIB,
  randomBytes: MIB,
};

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "osr-disk-image-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("an image is a whole ext4 file system with real and random data, and without holes", () =>
  inFolder(async (folder) => {
    const path = join(folder, "disk.raw");
    const { fileBytes } = await makeDiskImage(path, SCALE, new AbortController().signal);
    assert.ok(fileBytes > 4 * MIB && fileBytes <= SCALE.fileBytes, `${fileBytes} bytes of files`);
    const { size, blocks } = await stat(path);
    assert.equal(size, SCALE.diskBytes);
    assert.ok(blocks * 512 >= size, "there are no holes");
    const content = await readFile(path);
    assert.equal(content.readUInt16LE(1024 + 0x38), 0xef53, "the magic number of ext4");
    const random = new SeededBytes("osr-bench-1").bytes(BLOCK_BYTES);
    assert.ok(content.includes(random), "the random data is in it");
    assert.deepEqual(await readdir(folder), ["disk.raw"], "nothing else is left");
  }));

test("the floor is the changed blocks in the disk's order, compressed as one", () =>
  inFolder(async (folder) => {
    const path = join(folder, "disk.raw");
    const changes = clusteredChanges({ seed: "1", rangeBytes: 16 * MIB, scale: 1 / 64 });
    await using file = await open(path, "w+");
    await file.truncate(16 * MIB);
    await applyChanges(file, changes);
    const content = await readFile(path);
    const blocks = changedBlocks(changes);
    const alone = Buffer.concat(
      blocks.map((block) => content.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)),
    );
    const floor = await deltaFloorBytes(path, blocks);
    const whole = zstdCompressSync(alone).length;
    assert.ok(Math.abs(floor - whole) < whole / 50, `${floor} is not about ${whole}`);
    assert.ok(floor > alone.length / 4, "half of it is random");
  }));
