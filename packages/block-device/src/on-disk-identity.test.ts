import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import {
  IDENTITY_BYTES,
  fileSystemId,
  hasBootCode,
  mdMemberId,
  mdSuperblockAtEnd,
  partitionTableId,
  physicalVolumeId,
} from "./on-disk-identity.ts";
import { LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";

const UUID = "00112233-4455-6677-8899-aabbccddeeff";
const RAW = Buffer.from(UUID.replaceAll("-", ""), "hex");

function disk(): Buffer {
  return Buffer.alloc(IDENTITY_BYTES);
}

test("the GUID of a GPT, with sectors of 512 and of 4096 bytes", () => {
  for (const sectorBytes of [512, 4096]) {
    const start = disk();
    start.writeUInt16BE(0x55aa, 510);
    start.writeUInt32LE(0xdeadbeef, 440);
    start.write("EFI PART", sectorBytes);
    RAW.copy(start, sectorBytes + 56);
    assert.equal(partitionTableId(start), "33221100-5544-7766-8899-aabbccddeeff");
  }
});

test("the signature of an MBR, unless it is zero or a FAT file system", () => {
  const start = disk();
  assert.equal(partitionTableId(start), undefined);
  start.writeUInt16BE(0x55aa, 510);
  assert.equal(partitionTableId(start), undefined);
  start.writeUInt32LE(0xbeef, 440);
  assert.equal(partitionTableId(start), "0000beef");
  assert.equal(hasBootCode(start), false);
  start[0] = 0xeb;
  assert.equal(hasBootCode(start), true);
  start.write("FAT32", 82);
  assert.equal(partitionTableId(start), undefined);
});

test("UUIDs of file systems on a whole disk", () => {
  const places: readonly (readonly [magicAt: number, magic: string, uuidAt: number])[] = [
    [1080, "\x53\xef", 1128],
    [0, "XFSB", 32],
    [65_600, "_BHRfS_M", 65_803],
    [4086, "SWAPSPACE2", 1036],
  ];
  for (const [magicAt, magic, uuidAt] of places) {
    const start = disk();
    assert.equal(fileSystemId(start), undefined);
    start.write(magic, magicAt, "latin1");
    assert.equal(fileSystemId(start), undefined);
    RAW.copy(start, uuidAt);
    assert.equal(fileSystemId(start), UUID);
    assert.equal(fileSystemId(start.subarray(0, uuidAt + 8)), undefined);
  }
});

test("the UUID of a physical volume of LVM, in whichever sector its label is", () => {
  for (const sector of [0, 1, 3]) {
    const start = disk();
    assert.equal(physicalVolumeId(start), undefined);
    const at = sector * 512;
    start.write("LABELONE", at);
    start.writeUInt32LE(32, at + 20);
    start.write("LVM2 001", at + 24);
    assert.equal(physicalVolumeId(start), undefined);
    start.write("abcdef0123456789ABCDEFGHIJKLMNOP", at + 32);
    assert.equal(physicalVolumeId(start), "abcdef-0123-4567-89AB-CDEF-GHIJ-KLMNOP");
    start.writeUInt32LE(0xfffffff0, at + 20);
    assert.equal(physicalVolumeId(start), undefined);
  }
});

test("the UUID of a member of an md array, wherever its superblock is", () => {
  const superblock = Buffer.alloc(4096);
  superblock.writeUInt32LE(0xa92b4efc, 0);
  superblock.writeUInt32LE(1, 4);
  RAW.copy(superblock, 168);
  const none = Buffer.alloc(0);
  for (const offset of [0, 4096]) {
    const start = disk();
    superblock.copy(start, offset);
    assert.equal(mdMemberId(start, none), UUID);
  }
  assert.equal(mdMemberId(disk(), superblock), UUID);
  assert.equal(mdMemberId(disk(), superblock.subarray(0, 170)), undefined);
  superblock.writeUInt32LE(0, 4);
  assert.equal(mdMemberId(disk(), superblock), undefined);
  // As mdadm places version 1.0: at least 8 KiB and less than 12 KiB from the end, a multiple of 4 KiB.
  assert.equal(mdSuperblockAtEnd(64 * MIB), 64 * MIB - 8192);
  assert.equal(mdSuperblockAtEnd(64 * MIB + 512), 64 * MIB - 8192);
});

test(
  "the devices of one btrfs have different identities",
  { skip: loopSkipReason("mkfs.btrfs") ?? false },
  (t) => {
    const loops = new LoopDisks(t);
    const disks = [loops.create(128 * MIB), loops.create(128 * MIB)];
    runTool("mkfs.btrfs", "-q", ...disks.map(({ path }) => path));
    const ids = disks.map(({ backingFile }) =>
      fileSystemId(readFileSync(backingFile).subarray(0, IDENTITY_BYTES)),
    );
    for (const id of ids) assert.match(id ?? "none", /^[0-9a-f-]{36}$/);
    assert.notEqual(ids[0], ids[1]);
  },
);

test(
  "the label that LVM itself writes on a disk",
  { skip: loopSkipReason("lvm") ?? false },
  (t) => {
    const loops = new LoopDisks(t);
    const { path, backingFile } = loops.create(64 * MIB);
    const settings = [
      `devices { use_devicesfile=0 hints="none" filter=["a|${path}|","r|.*|"] }`,
      `global { locking_dir="${loops.folder()}" event_activation=0 }`,
    ].join(" ");
    runTool("lvm", "pvcreate", "--config", settings, path);
    const words = ["pvs", "--config", settings, "--noheadings", "-o", "pv_uuid", path];
    const theirs = runTool("lvm", ...words).trim();
    assert.match(theirs, /^\w{6}(-\w{4}){5}-\w{6}$/);
    assert.equal(physicalVolumeId(readFileSync(backingFile).subarray(0, IDENTITY_BYTES)), theirs);
  },
);

test("short disks have no identity", () => {
  for (const bytes of [0, 511, 512, 1024]) {
    const start = Buffer.alloc(bytes);
    assert.equal(partitionTableId(start), undefined);
    assert.equal(fileSystemId(start), undefined);
    assert.equal(physicalVolumeId(start), undefined);
    assert.equal(mdMemberId(start, start), undefined);
    assert.equal(hasBootCode(start), false);
  }
});
