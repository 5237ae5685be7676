import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { isZero } from "@osr/base/zero";
import { type Uuid, uuidFromBytes, uuidToBytes } from "@osr/base/uuid";

import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { readU64, writeU64 } from "./u64.ts";

/** The common header of binary objects: docs/formats/object.md. */
export const OBJECT_HEADER_BYTES = 128;
/** Version of the formats that this code writes; readers of this version read what asks for no more. */
export const FORMAT_VERSION = 1;

const MAGIC = 0x3152534f; // "OSR1"
const CRC_OFFSET = 124;
const RESERVED_OFFSET = 100;

export const OBJECT_KINDS = { SEGMENT: 1 } as const;

export type ObjectHeader = {
  readonly kind: number;
  readonly vaultId: Uuid;
  readonly diskId: Uuid;
  readonly timeline: number;
  /** Of the log's owner. */
  readonly generation: number;
  readonly seq: number;
  /** Random for each encoding. */
  readonly objectId: Uuid;
  readonly keyVersion: number;
  /** For people. */
  readonly createdUnixMs: number;
};

export function encodeObjectHeader(header: ObjectHeader): Buffer {
  assert(Number.isSafeInteger(header.seq) && header.seq >= 1, "seq starts at 1");
  assert(header.generation >= 1 && header.timeline >= 1, "generation and timeline start at 1");
  const bytes = Buffer.alloc(OBJECT_HEADER_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt16LE(FORMAT_VERSION, 4);
  bytes.writeUInt16LE(FORMAT_VERSION, 6);
  bytes.writeUInt16LE(header.kind, 20);
  uuidToBytes(header.vaultId).copy(bytes, 24);
  uuidToBytes(header.diskId).copy(bytes, 40);
  bytes.writeUInt32LE(header.timeline, 56);
  bytes.writeUInt32LE(header.generation, 60);
  writeU64(bytes, header.seq, 64);
  uuidToBytes(header.objectId).copy(bytes, 72);
  bytes.writeUInt32LE(header.keyVersion, 88);
  writeU64(bytes, header.createdUnixMs, 92);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  return bytes;
}

/** Reads the first 128 bytes of an object. Throws FORMAT_UNKNOWN, OBJECT_DAMAGED, FORMAT_NEWER. */
export function decodeObjectHeader(bytes: Buffer): ObjectHeader {
  if (bytes.length < OBJECT_HEADER_BYTES) damaged("it is shorter than its header");
  if (bytes.readUInt32LE(0) !== MAGIC)
    throw new OsrError(REPOSITORY_ERRORS.FORMAT_UNKNOWN, "the object has another magic number");
  if (crc32(bytes.subarray(0, CRC_OFFSET)) !== bytes.readUInt32LE(CRC_OFFSET))
    damaged("checksum of the header differs");
  checkFeatures(bytes);
  if (bytes.readUInt16LE(22) !== 0 || !isZero(bytes.subarray(RESERVED_OFFSET, CRC_OFFSET)))
    damaged("reserved bytes of the header are set");
  const header = {
    kind: bytes.readUInt16LE(20),
    vaultId: uuidFromBytes(bytes.subarray(24, 40)),
    diskId: uuidFromBytes(bytes.subarray(40, 56)),
    timeline: bytes.readUInt32LE(56),
    generation: bytes.readUInt32LE(60),
    seq: readU64(bytes, 64),
    objectId: uuidFromBytes(bytes.subarray(72, 88)),
    keyVersion: bytes.readUInt32LE(88),
    createdUnixMs: readU64(bytes, 92),
  };
  if (header.timeline === 0 || header.generation === 0 || header.seq === 0)
    damaged("a number of the header is zero");
  if (!Number.isSafeInteger(header.seq) || !Number.isSafeInteger(header.createdUnixMs))
    damaged("a number of the header is too large");
  return header;
}

/** Refuses objects whose log this code may read but not write. `bytes` is a header that was decoded. */
export function checkWritable(bytes: Buffer): void {
  const unknown = bytes.readUInt32LE(12);
  if (unknown !== 0)
    throw new OsrError(
      REPOSITORY_ERRORS.FORMAT_NEWER,
      `only newer writers may go on with this log (features 0x${unknown.toString(16)})`,
    );
}

function checkFeatures(bytes: Buffer): void {
  const minReader = bytes.readUInt16LE(6);
  const incompat = bytes.readUInt32LE(16);
  if (minReader > FORMAT_VERSION || incompat !== 0)
    throw new OsrError(
      REPOSITORY_ERRORS.FORMAT_NEWER,
      `the object needs reader version ${minReader}, features 0x${incompat.toString(16)}`,
    );
  if (bytes.readUInt16LE(4) < FORMAT_VERSION || minReader === 0) damaged("format 0");
}

function damaged(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.OBJECT_DAMAGED, message);
}
