import { createCipheriv, createDecipheriv } from "node:crypto";
import { crc32 } from "node:zlib";

import { type Uuid, uuidFromBytes, uuidToBytes } from "@osr/base/uuid";

import { type JournalEntry, decodeJournalEntry, encodeJournalEntry } from "./journal-entry.ts";

/** The `.jnl` file: docs/formats/spool.md. A head in the clear, then sealed entries. */
export const JOURNAL_HEAD_BYTES = 64;
const MAGIC = 0x4a52534f; // "OSRJ"
const VERSION = 1;
const ENTRY_HEAD_BYTES = 8;
const TAG_BYTES = 16;
const NONCE_BYTES = 12;
/** Longer entries cannot come from one batch. */
export const ENTRY_BYTES_MAX = 4 * 1024 * 1024;

export type JournalHead = { readonly objectId: Uuid; readonly diskId: Uuid };

export function encodeJournalHead(head: JournalHead): Buffer {
  const bytes = Buffer.alloc(JOURNAL_HEAD_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  uuidToBytes(head.objectId).copy(bytes, 8);
  uuidToBytes(head.diskId).copy(bytes, 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** Undefined where the bytes are no whole head of version 1, as after a crash right after the file was made. */
export function decodeJournalHead(bytes: Buffer): JournalHead | undefined {
  if (bytes.length < JOURNAL_HEAD_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(60) !== crc32(bytes.subarray(0, 60))) return undefined;
  if (bytes.readUInt32LE(4) !== VERSION) return undefined;
  if (bytes.subarray(40, 60).some((byte) => byte !== 0)) return undefined;
  return {
    objectId: uuidFromBytes(bytes.subarray(8, 24)),
    diskId: uuidFromBytes(bytes.subarray(24, 40)),
  };
}

/** Seals the `entryNo`-th entry under the index key of the object. */
export function sealJournalEntry(entry: JournalEntry, entryNo: number, indexKey: Buffer): Buffer {
  const plain = encodeJournalEntry(entry);
  const cipher = createCipheriv("aes-256-gcm", indexKey, entryNonce(entryNo));
  const body = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  const head = Buffer.alloc(ENTRY_HEAD_BYTES);
  head.writeUInt32LE(plain.length, 0);
  head.writeUInt32LE(crc32(body), 4);
  return Buffer.concat([head, body]);
}

/**
 * An entry and how many bytes it takes in the file; undefined where there is no whole, authentic one at `offset`. Throws
 * SPOOL_DAMAGED where an authentic one makes no sense.
 */
export function openJournalEntry(
  file: Buffer,
  offset: number,
  entryNo: number,
  indexKey: Buffer,
): { readonly entry: JournalEntry; readonly bytes: number } | undefined {
  if (file.length - offset < ENTRY_HEAD_BYTES) return undefined;
  const plainBytes = file.readUInt32LE(offset);
  const bytes = ENTRY_HEAD_BYTES + plainBytes + TAG_BYTES;
  if (plainBytes > ENTRY_BYTES_MAX || file.length - offset < bytes) return undefined;
  const body = file.subarray(offset + ENTRY_HEAD_BYTES, offset + bytes);
  if (crc32(body) !== file.readUInt32LE(offset + 4)) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", indexKey, entryNonce(entryNo));
  decipher.setAuthTag(body.subarray(plainBytes));
  const head = decipher.update(body.subarray(0, plainBytes));
  let tail: Buffer;
  try {
    tail = decipher.final();
  } catch {
    return undefined;
  }
  return { entry: decodeJournalEntry(Buffer.concat([head, tail])), bytes };
}

/** Entry number + 2^95, little-endian: never the nonce of an index part, whose key is the same. */
function entryNonce(entryNo: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32LE(entryNo, 0);
  nonce[NONCE_BYTES - 1] = 0x80;
  return nonce;
}
