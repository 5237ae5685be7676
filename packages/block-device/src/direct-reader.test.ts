import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { GIB, MIB } from "@osr/base/units";

import { alignedBuffer } from "./aligned-buffer.ts";
import { openDirectReader } from "./direct-reader.ts";
import { type LoopDisk, LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";

const skip = loopSkipReason("mkfs.ext4") ?? false;

function writeAt(file: string, offset: number, data: Buffer): void {
  const fd = fs.openSync(file, "r+");
  fs.writeSync(fd, data, 0, data.length, offset);
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

test("reads what is on the disk, also beyond 4 GiB, both ways", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(5 * GIB);
  const data = Buffer.alloc(MIB, "abcdefg");
  const offset = 4 * GIB + 7 * BLOCK_BYTES;
  writeAt(disk.path, offset, data);
  await using reader = openDirectReader(disk);
  const target = alignedBuffer(MIB);
  await reader.read(offset, target);
  assert.deepEqual(target, data);
  target.fill(1);
  reader.readSync(offset, target);
  assert.deepEqual(target, data);
  target.fill(1);
  await reader.read(0, target);
  assert.deepEqual(target, Buffer.alloc(MIB));
});

test("a tail shorter than a block is padded with zeros", { skip }, async (t) => {
  const sizeBytes = MIB + 3 * 512;
  const disk = new LoopDisks(t).create(sizeBytes);
  writeAt(disk.path, MIB, Buffer.alloc(3 * 512, 9));
  await using reader = openDirectReader(disk);
  const expected = Buffer.concat([Buffer.alloc(3 * 512, 9), Buffer.alloc(BLOCK_BYTES - 3 * 512)]);
  const target = alignedBuffer(BLOCK_BYTES).fill(5);
  await reader.read(MIB, target);
  assert.deepEqual(target, expected);
  target.fill(5);
  reader.readSync(MIB, target);
  assert.deepEqual(target, expected);
  await assert.rejects(reader.read(MIB + BLOCK_BYTES, target), { code: "INTERNAL_ASSERTION" });
});

/** A loop device answers reads beyond the end of its file with an I/O error. */
function breakAfter(disk: LoopDisk, bytes: number): void {
  fs.truncateSync(disk.backingFile, bytes);
}

test("an unreadable block is named, and what precedes it is read", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(2 * MIB);
  writeAt(disk.path, 0, Buffer.alloc(MIB, 3));
  const block = 77;
  breakAfter(disk, block * BLOCK_BYTES);
  await using reader = openDirectReader(disk);
  const target = alignedBuffer(MIB);
  const failure = { code: "DISK_UNREADABLE", details: { path: disk.path, block } };
  await assert.rejects(reader.read(0, target), failure);
  assert.deepEqual(target.subarray(0, block * BLOCK_BYTES), Buffer.alloc(block * BLOCK_BYTES, 3));
  target.fill(0);
  assert.throws(() => reader.readSync(0, target), failure);
  await reader.read(0, target.subarray(0, block * BLOCK_BYTES));
  assert.equal(target[block * BLOCK_BYTES - 1], 3);
});

test("sees what a buffered read of a mounted disk does not", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(16 * MIB);
  const folder = loops.mount(disk, "ext4", "-q", "-b", "4096");
  const file = `${folder}/file`;
  const before = Buffer.alloc(BLOCK_BYTES, "before");
  const after = Buffer.alloc(BLOCK_BYTES, "after");
  fs.writeFileSync(file, before, { flush: true });
  runTool("sync", "-f", folder);
  await using reader = openDirectReader(disk);
  const direct = alignedBuffer(disk.sizeBytes);
  reader.readSync(0, direct);
  const offset = direct.indexOf(before);
  assert.ok(offset > 0 && offset % BLOCK_BYTES === 0);
  const buffered = fs.openSync(disk.path, "r");
  t.after(() => fs.closeSync(buffered));
  const target = Buffer.alloc(BLOCK_BYTES);
  fs.readSync(buffered, target, 0, BLOCK_BYTES, offset);
  writeAt(file, 0, after);
  fs.readSync(buffered, target, 0, BLOCK_BYTES, offset);
  assert.deepEqual(target, before, "the page cache of the disk is expected to be stale");
  reader.readSync(offset, direct.subarray(0, BLOCK_BYTES));
  assert.deepEqual(direct.subarray(0, BLOCK_BYTES), after);
});

test("closing waits for reads under way", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(4 * MIB);
  const reader = openDirectReader(disk);
  const target = alignedBuffer(4 * MIB).fill(1);
  const reading = reader.read(0, target);
  await reader[Symbol.asyncDispose]();
  await reading;
  assert.equal(target.indexOf(1), -1);
  assert.throws(() => reader.readSync(0, target), { code: "INTERNAL_ASSERTION" });
});

test("unaligned reads are refused before the kernel sees them", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(MIB);
  await using reader = openDirectReader(disk);
  const target = alignedBuffer(2 * BLOCK_BYTES);
  const refused = { code: "INTERNAL_ASSERTION" };
  assert.throws(() => reader.readSync(512, target), refused);
  assert.throws(() => reader.readSync(0, target.subarray(0, 512)), refused);
  assert.throws(() => reader.readSync(0, target.subarray(512, 512 + BLOCK_BYTES)), refused);
  assert.throws(() => reader.readSync(MIB, target), refused);
});
