import { linuxCalls } from "./linux-calls.ts";

/** A piece of a file and where it lies on the device of its file system; bytes. */
export type FileExtent = {
  readonly fileOffset: number;
  readonly deviceOffset: number;
  readonly bytes: number;
};

/** struct fiemap and struct fiemap_extent of linux/fiemap.h. */
const REQUEST_BYTES = 32;
const EXTENT_BYTES = 56;
const FLAG_SYNC = 1;
const WHOLE_FILE = 2n ** 64n - 1n;
const EXTENT_FLAGS_AT = 40;
/** FIEMAP_EXTENT_LAST, UNWRITTEN, MERGED: the only ones with which the extent is the file's own bytes in that place. */
const PLAIN_FLAGS = 0x1 | 0x800 | 0x1000;

/**
 * Where an open file lies, in its order, pieces that touch made one. Undefined where the file system does not say, a piece is
 * not simply the file's bytes (shared, encoded, not yet placed), or there are more than `extentsMax`. The numbers are places of
 * the device only where the file system has just one and does not translate: ext2 to ext4 and XFS, not btrfs.
 */
export function fileExtents(fd: number, extentsMax: number): readonly FileExtent[] | undefined {
  const request = Buffer.alloc(REQUEST_BYTES + extentsMax * EXTENT_BYTES);
  request.writeBigUInt64LE(WHOLE_FILE, 8);
  request.writeUInt32LE(FLAG_SYNC, 16);
  request.writeUInt32LE(extentsMax, 24);
  if (linuxCalls().mapExtents(fd, request) !== 0) return undefined;
  const mapped = request.readUInt32LE(20);
  const extents: FileExtent[] = [];
  let isWhole = mapped === 0;
  for (let index = 0; index < mapped; index++) {
    const at = REQUEST_BYTES + index * EXTENT_BYTES;
    const flags = request.readUInt32LE(at + EXTENT_FLAGS_AT);
    if ((flags & ~PLAIN_FLAGS) !== 0) return undefined;
    isWhole = (flags & 1) === 1;
    const extent = {
      fileOffset: Number(request.readBigUInt64LE(at)),
      deviceOffset: Number(request.readBigUInt64LE(at + 8)),
      bytes: Number(request.readBigUInt64LE(at + 16)),
    };
    const last = extents.at(-1);
    if (last !== undefined && isNext(last, extent))
      extents[extents.length - 1] = { ...last, bytes: last.bytes + extent.bytes };
    else extents.push(extent);
  }
  return isWhole ? extents : undefined;
}

function isNext(last: FileExtent, extent: FileExtent): boolean {
  return (
    last.fileOffset + last.bytes === extent.fileOffset &&
    last.deviceOffset + last.bytes === extent.deviceOffset
  );
}
