import assert from "node:assert/strict";
import { test } from "node:test";

import { IDENTITY_BYTES, fileSystemId, hasBootCode, partitionTableId } from "./on-disk-identity.ts";

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
    [65_600, "_BHRfS_M", 65_568],
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

test("short disks have no identity", () => {
  for (const bytes of [0, 511, 512, 1024]) {
    const start = Buffer.alloc(bytes);
    assert.equal(partitionTableId(start), undefined);
    assert.equal(fileSystemId(start), undefined);
    assert.equal(hasBootCode(start), false);
  }
});
