import fs from "node:fs";
import path from "node:path";

import { BLOCK_BYTES } from "@osr/base/block-range";

import { alignedBuffer } from "./aligned-buffer.ts";
import type { SectorRange } from "./change-tracker.ts";
import { openDirectReader } from "./direct-reader.ts";
import { type FileExtent, fileExtents } from "./file-extents.ts";
import { parseMountTable } from "./mount-table.ts";
import { type SystemRoots, readNumber, readText } from "./system-roots.ts";

const SECTOR_BYTES = 512;
/** More pieces are not worth looking through with every request; such a file is replicated like any other. */
const EXTENTS_MAX = 256;
/** File systems whose extents are places of their only device. */
const FILE_SYSTEMS = ["ext2", "ext3", "ext4", "xfs"];
const MAGIC = "SWAPSPACE2";

/** Of all swap files, one after another. */
let headerBlock: Buffer | undefined;

/**
 * The sectors of a disk that a swap file in use takes, without its header; `sizeBytes` is what the kernel swaps to behind that.
 * None where the file is not proved to lie there, through LVM, md or btrfs for instance: then it is replicated like any
 * other. The proof: the disk, read past every cache, has the file's header where the file is said to begin.
 */
export function swapFileRanges(
  file: { readonly path: string; readonly sizeBytes: number; readonly headerBytes: number },
  disk: { readonly name: string; readonly sizeBytes: number },
  roots: SystemRoots,
): readonly SectorRange[] {
  let fd: number | undefined;
  try {
    fd = fs.openSync(file.path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
    const offset = offsetOnDisk(fd, disk.name, roots);
    const extents = offset === undefined ? undefined : fileExtents(fd, EXTENTS_MAX);
    if (offset === undefined || extents === undefined) return [];
    if (!isHeaderThere(fd, file.headerBytes, { disk, offset, extents, roots })) return [];
    const end = file.headerBytes + file.sizeBytes;
    return extents
      .map((extent) => sectorsOf(extent, offset, file.headerBytes, end))
      .filter(({ count }) => count > 0);
  } catch {
    // It went out of use meanwhile, or is out of reach: nothing is left out.
    return [];
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Where on the disk the file's file system begins, in bytes; undefined where that is not simply a part of the disk. */
function offsetOnDisk(fd: number, diskName: string, roots: SystemRoots): number | undefined {
  const { dev } = fs.fstatSync(fd);
  // As glibc splits a device number: twelve bits of the major above eight of the minor, and twelve more of the minor.
  const device = `${Math.floor(dev / 256) % 4096}:${(dev % 256) + Math.floor(dev / 2 ** 20) * 256}`;
  const mounts = parseMountTable(readText(roots.procfs, "self/mountinfo") ?? "");
  const type = mounts.find((mount) => mount.device === device)?.type;
  if (type === undefined || !FILE_SYSTEMS.includes(type)) return undefined;
  const folder = fs.realpathSync(path.join(roots.sysfs, "dev/block", device));
  if (path.basename(folder) === diskName) return 0;
  if (path.basename(path.dirname(folder)) !== diskName) return undefined;
  const start = readNumber(folder, "start");
  return start === undefined ? undefined : start * SECTOR_BYTES;
}

function isHeaderThere(
  fd: number,
  headerBytes: number,
  place: {
    readonly disk: { readonly name: string; readonly sizeBytes: number };
    readonly offset: number;
    readonly extents: readonly FileExtent[];
    readonly roots: SystemRoots;
  },
): boolean {
  const { disk, offset, extents, roots } = place;
  const [first] = extents;
  if (first?.fileOffset !== 0 || (offset + first.deviceOffset) % BLOCK_BYTES !== 0) return false;
  const header = Buffer.alloc(headerBytes);
  if (fs.readSync(fd, header, 0, headerBytes, 0) !== headerBytes) return false;
  if (header.toString("latin1", headerBytes - MAGIC.length) !== MAGIC) return false;
  const block = (headerBlock ??= alignedBuffer(BLOCK_BYTES));
  const reader = openDirectReader({ ...disk, path: path.join(roots.dev, disk.name) });
  try {
    reader.readSync(offset + first.deviceOffset, block);
    // The names of the area are in its first block; the magic is at the end of a page, which may be larger.
    return block.equals(header.subarray(0, BLOCK_BYTES));
  } finally {
    void reader[Symbol.asyncDispose]();
  }
}

function sectorsOf(extent: FileExtent, offset: number, from: number, to: number): SectorRange {
  const start = Math.max(extent.fileOffset, from);
  const end = Math.min(extent.fileOffset + extent.bytes, to);
  const begin = offset + extent.deviceOffset + (start - extent.fileOffset);
  const sector = begin / SECTOR_BYTES;
  return { sector, count: Math.max(0, end - start) / SECTOR_BYTES };
}
