import { uuidFromBytes } from "@osr/base/uuid";

/** How much of a disk's start is needed to find its partition table and its file system. */
export const IDENTITY_BYTES = 68 * 1024;

const MBR_SIGNATURE_OFFSET = 440;
const MBR_MAGIC_OFFSET = 510;
const MBR_CODE_BYTES = 440;
const GPT_MAGIC = "EFI PART";
const GPT_GUID_OFFSET = 56;
const GPT_SECTOR_SIZES = [512, 4096];

/** A physical volume of LVM has its label in one of the first four sectors. */
const LVM_LABEL_SECTORS = 4;
const LVM_LABEL = "LABELONE";
const LVM_TYPE = "LVM2 001";
const LVM_UUID_PARTS = [6, 4, 4, 4, 4, 4, 6];

const MD_MAGIC = 0xa92b4efc;
const MD_VERSION = 1;
const MD_DEVICE_UUID_OFFSET = 168;
/** Versions 1.1 and 1.2 of the superblock of a member of an md array. */
const MD_OFFSETS = [0, 4096];

const EXT_SUPERBLOCK = 1024;
const BTRFS_SUPERBLOCK = 64 * 1024;

/** Identity of a disk's partition table: the GUID of a GPT, else the signature of an MBR; undefined where there is none. */
export function partitionTableId(start: Buffer): string | undefined {
  for (const sectorBytes of GPT_SECTOR_SIZES) {
    if (start.length < sectorBytes + GPT_GUID_OFFSET + 16) continue;
    if (start.toString("latin1", sectorBytes, sectorBytes + GPT_MAGIC.length) !== GPT_MAGIC)
      continue;
    return guid(start, sectorBytes + GPT_GUID_OFFSET);
  }
  if (start.length < 512 || start.readUInt16BE(MBR_MAGIC_OFFSET) !== 0x55aa) return undefined;
  // A FAT file system over the whole disk has the same magic, with other things where the signature would be.
  if (start.toString("latin1", 54, 57) === "FAT" || start.toString("latin1", 82, 87) === "FAT32")
    return undefined;
  const signature = start.readUInt32LE(MBR_SIGNATURE_OFFSET);
  return signature === 0 ? undefined : signature.toString(16).padStart(8, "0");
}

/** True where a PC's BIOS would find code to start. */
export function hasBootCode(start: Buffer): boolean {
  return (
    start.length >= 512 &&
    start.readUInt16BE(MBR_MAGIC_OFFSET) === 0x55aa &&
    start.subarray(0, MBR_CODE_BYTES).some((byte) => byte !== 0)
  );
}

/** UUID of a physical volume of LVM over the whole disk, as LVM prints it; undefined where there is none. */
export function physicalVolumeId(start: Buffer): string | undefined {
  for (let sector = 0; sector < LVM_LABEL_SECTORS; sector++) {
    const label = start.subarray(sector * 512, (sector + 1) * 512);
    if (label.toString("latin1", 0, 8) !== LVM_LABEL) continue;
    if (label.toString("latin1", 24, 32) !== LVM_TYPE) continue;
    const header = label.readUInt32LE(20);
    const id = label.toString("latin1", header, header + 32);
    if (!/^[0-9A-Za-z]{32}$/.test(id)) continue;
    let at = 0;
    return LVM_UUID_PARTS.map((chars) => id.slice(at, (at += chars))).join("-");
  }
  return undefined;
}

/** Where version 1.0 of the superblock of a member of an md array lies: near the end of the disk. */
export function mdSuperblockAtEnd(sizeBytes: number): number {
  return Math.floor((sizeBytes / 512 - 16) / 8) * 8 * 512;
}

/**
 * UUID of a member of an md array over the whole disk, other than that of each other member; undefined where the disk is none.
 * `atEnd` is what the disk holds at `mdSuperblockAtEnd`. Version 0.90 of the superblock has no such UUID.
 */
export function mdMemberId(start: Buffer, atEnd: Buffer): string | undefined {
  for (const superblock of [...MD_OFFSETS.map((offset) => start.subarray(offset)), atEnd]) {
    if (superblock.length < MD_DEVICE_UUID_OFFSET + 16) continue;
    if (superblock.readUInt32LE(0) !== MD_MAGIC || superblock.readUInt32LE(4) !== MD_VERSION)
      continue;
    return uuidAt(superblock, MD_DEVICE_UUID_OFFSET);
  }
  return undefined;
}

/**
 * UUID of an ext, XFS or btrfs file system, or of a swap area, over the whole disk; undefined where there is none. Of a btrfs
 * it is that of the device, since all its devices hold the UUID of the file system.
 */
export function fileSystemId(start: Buffer): string | undefined {
  const at = (offset: number, magic: string): boolean =>
    start.length >= offset + magic.length &&
    start.toString("latin1", offset, offset + magic.length) === magic;
  if (at(EXT_SUPERBLOCK + 56, "\x53\xef")) return uuidAt(start, EXT_SUPERBLOCK + 104);
  if (at(0, "XFSB")) return uuidAt(start, 32);
  if (at(BTRFS_SUPERBLOCK + 64, "_BHRfS_M")) return uuidAt(start, BTRFS_SUPERBLOCK + 267);
  if (at(4086, "SWAPSPACE2")) return uuidAt(start, 1036);
  return undefined;
}

function uuidAt(bytes: Buffer, offset: number): string | undefined {
  if (bytes.length < offset + 16) return undefined;
  const raw = bytes.subarray(offset, offset + 16);
  return raw.every((byte) => byte === 0) ? undefined : uuidFromBytes(raw);
}

/** GUIDs keep their first three parts in little-endian order. */
function guid(bytes: Buffer, offset: number): string | undefined {
  const raw = Buffer.from(bytes.subarray(offset, offset + 16));
  raw.subarray(0, 4).reverse();
  raw.subarray(4, 6).reverse();
  raw.subarray(6, 8).reverse();
  return uuidAt(raw, 0);
}
