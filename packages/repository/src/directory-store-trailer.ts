import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";

import { OID_CHARS_MAX, STORE_ERRORS } from "./object-store.ts";

/**
 * What a file of a directory store ends with, after the bytes of the object. Little-endian:
 *
 * | offset | size | field     |                                |
 * | ------ | ---- | --------- | ------------------------------ |
 * | 0      | 4    | magic     | `4f 53 52 44`, "OSRD"          |
 * | 4      | 2    | version   | 1                              |
 * | 6      | 1    | oidChars  | 0: no oid was given            |
 * | 7      | 1    | reserved  |                                |
 * | 8      | 4    | sizeBytes | of the object                  |
 * | 12     | 64   | oid       | ASCII, zeros after it          |
 * | 76     | 16   | reserved  |                                |
 * | 92     | 4    | crc32     | of bytes 0 to 91               |
 */
export const TRAILER_BYTES = 96;

const MAGIC = 0x4452534f; // "OSRD"
const VERSION = 1;
const OID_OFFSET = 12;
const CRC_OFFSET = TRAILER_BYTES - 4;
assert(OID_OFFSET + OID_CHARS_MAX + 16 === CRC_OFFSET, "the trailer's fields fill it");

export function encodeTrailer(sizeBytes: number, oid: string | undefined): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32LE(MAGIC, 0);
  trailer.writeUInt16LE(VERSION, 4);
  trailer[6] = trailer.write(oid ?? "", OID_OFFSET, OID_CHARS_MAX, "latin1");
  trailer.writeUInt32LE(sizeBytes, 8);
  trailer.writeUInt32LE(crc32(trailer.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  return trailer;
}

/** Throws OBJECT_DAMAGED unless `trailer` is that of an object of `sizeBytes`. */
export function decodeTrailer(trailer: Buffer, sizeBytes: number): { readonly oid?: string } {
  const isWhole =
    trailer.length === TRAILER_BYTES &&
    trailer.readUInt32LE(0) === MAGIC &&
    trailer.readUInt16LE(4) === VERSION &&
    trailer.readUInt32LE(8) === sizeBytes &&
    trailer.readUInt32LE(CRC_OFFSET) === crc32(trailer.subarray(0, CRC_OFFSET));
  if (!isWhole)
    throw new OsrError(STORE_ERRORS.OBJECT_DAMAGED, "the end of the object's file is damaged");
  const chars = trailer[6] ?? 0;
  return chars === 0 ? {} : { oid: trailer.toString("latin1", OID_OFFSET, OID_OFFSET + chars) };
}
