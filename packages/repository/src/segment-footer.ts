import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { isZero } from "@osr/base/zero";

import { OBJECT_HEADER_BYTES } from "./object-header.ts";
import { OBJECT_BYTES_MAX } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { DIRECTORY_BYTES_MAX } from "./segment-index.ts";
import { readU64, writeU64 } from "./u64.ts";

/** Footer of a segment: docs/formats/segment.md. */
export const SEGMENT_FOOTER_BYTES = 128;
const SHA256_BYTES = 32;
/** `previousHead` of the first segment of a log. */
export const NO_HEAD = Buffer.alloc(SHA256_BYTES);

const MAGIC = 0x4652534f; // "OSRF"
const FLAG_FENCE = 1;
const FLAG_TAG = 2;
const CRC_OFFSET = 120;
const PREVIOUS_HEAD_OFFSET = 40;

export type SegmentFooter = {
  readonly isFence: boolean;
  readonly endsWithTag: boolean;
  readonly indexOffset: number;
  readonly indexBytes: number;
  readonly directoryBytes: number;
  readonly frameCount: number;
  readonly runCount: number;
  readonly zeroRunCount: number;
  /** Head of the segment before. */
  readonly previousHead: Buffer;
  /** SHA-256 of all bytes before the footer. */
  readonly contentSha256: Buffer;
  /** Of the tag; 0 where there is none. */
  readonly slot: number;
};

export function encodeFooter(footer: SegmentFooter): Buffer {
  assert(footer.previousHead.length === SHA256_BYTES, "a head is a SHA-256");
  assert(footer.contentSha256.length === SHA256_BYTES, "a content hash is a SHA-256");
  const bytes = Buffer.alloc(SEGMENT_FOOTER_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE((footer.isFence ? FLAG_FENCE : 0) + (footer.endsWithTag ? FLAG_TAG : 0), 4);
  writeU64(bytes, footer.indexOffset, 8);
  bytes.writeUInt32LE(footer.indexBytes, 16);
  bytes.writeUInt32LE(footer.directoryBytes, 20);
  bytes.writeUInt32LE(footer.frameCount, 24);
  bytes.writeUInt32LE(footer.runCount, 28);
  bytes.writeUInt32LE(footer.zeroRunCount, 32);
  footer.previousHead.copy(bytes, PREVIOUS_HEAD_OFFSET);
  footer.contentSha256.copy(bytes, 72);
  writeU64(bytes, footer.slot, 104);
  return sealFooter(bytes);
}

/** A footer as `footerBytes` is, with another head before it. Nothing else of a segment depends on `previousHead`. */
export function chainFooter(footerBytes: Buffer, previousHead: Buffer): Buffer {
  assert(footerBytes.length === SEGMENT_FOOTER_BYTES, "a footer has 128 bytes");
  assert(previousHead.length === SHA256_BYTES, "a head is a SHA-256");
  const bytes = Buffer.from(footerBytes);
  previousHead.copy(bytes, PREVIOUS_HEAD_OFFSET);
  return sealFooter(bytes);
}

/** Head of a segment: through `previousHead` it covers the whole log before it. */
export function headOf(footerBytes: Buffer): Buffer {
  assert(footerBytes.length === SEGMENT_FOOTER_BYTES, "a footer has 128 bytes");
  return createHash("sha256").update(footerBytes).digest();
}

/** Reads the last 128 bytes of an object of `objectBytes` bytes. Throws FORMAT_UNKNOWN, OBJECT_DAMAGED. */
export function decodeFooter(bytes: Buffer, objectBytes: number): SegmentFooter {
  if (bytes.length !== SEGMENT_FOOTER_BYTES) damaged("it is too short");
  if (bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(124) !== MAGIC)
    throw new OsrError(
      REPOSITORY_ERRORS.FORMAT_UNKNOWN,
      "the object does not end with a segment footer: it is truncated or no segment",
    );
  if (crc32(bytes.subarray(0, CRC_OFFSET)) !== bytes.readUInt32LE(CRC_OFFSET))
    damaged("checksum differs");
  const flags = bytes.readUInt32LE(4);
  if (flags >= FLAG_FENCE + FLAG_TAG) damaged(`flags ${flags} are not known`);
  if (bytes.readUInt32LE(36) !== 0 || !isZero(bytes.subarray(112, CRC_OFFSET)))
    damaged("reserved bytes are set");
  const footer = {
    isFence: flags === FLAG_FENCE,
    endsWithTag: flags === FLAG_TAG,
    indexOffset: readU64(bytes, 8),
    indexBytes: bytes.readUInt32LE(16),
    directoryBytes: bytes.readUInt32LE(20),
    frameCount: bytes.readUInt32LE(24),
    runCount: bytes.readUInt32LE(28),
    zeroRunCount: bytes.readUInt32LE(32),
    previousHead: Buffer.from(bytes.subarray(PREVIOUS_HEAD_OFFSET, 72)),
    contentSha256: Buffer.from(bytes.subarray(72, 104)),
    slot: readU64(bytes, 104),
  };
  checkLayout(footer, objectBytes);
  return footer;
}

function checkLayout(footer: SegmentFooter, objectBytes: number): void {
  const { indexOffset, indexBytes, directoryBytes } = footer;
  if (objectBytes > OBJECT_BYTES_MAX) damaged("the object is too long");
  if (indexOffset + indexBytes + SEGMENT_FOOTER_BYTES !== objectBytes)
    damaged("the length of the object differs");
  if (indexOffset < OBJECT_HEADER_BYTES || indexOffset % 16 !== 0) damaged("place of the index");
  if (directoryBytes > indexBytes || directoryBytes > DIRECTORY_BYTES_MAX)
    damaged("length of the directory");
  if (!Number.isSafeInteger(footer.slot) || (footer.slot !== 0 && !footer.endsWithTag))
    damaged("slot without a tag");
  if (footer.isFence && indexOffset !== OBJECT_HEADER_BYTES) damaged("a fence has no frames");
}

function sealFooter(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  bytes.writeUInt32LE(MAGIC, 124);
  return bytes;
}

function damaged(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.OBJECT_DAMAGED, `footer: ${message}`);
}
