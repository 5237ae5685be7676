import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError, defineErrors } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

/**
 * HRL records, agent to process server: docs/formats/hrl.md. Little-endian. A stream is a sequence of 64-byte headers,
 * each followed by its payload.
 */
export const HRL_HEADER_BYTES = 64;
export const HRL_PAYLOAD_BYTES_MAX = MIB;
/** Blocks of one DATA record. */
export const HRL_DATA_BLOCKS_MAX = HRL_PAYLOAD_BYTES_MAX / BLOCK_BYTES;

const MAGIC = 0x314c5248; // "HRL1"
const VERSION = 1;
const U32 = 2 ** 32;

/** DATA: `count` blocks of content. ZERO: `count` blocks of zeros. MARK: a tag. END: the interval is complete. */
export const HRL_TYPES = { DATA: 1, ZERO: 2, MARK: 3, END: 4 } as const;
export type HrlType = (typeof HRL_TYPES)[keyof typeof HRL_TYPES];

export type HrlHeader = {
  readonly type: HrlType;
  /** Epoch of the agent's session. */
  readonly session: number;
  readonly interval: number;
  /** From 0 in each interval, without gaps. */
  readonly recordNo: number;
  /** DATA and ZERO: first block. Otherwise 0. */
  readonly block: number;
  /** DATA and ZERO: number of blocks, at least 1. END: records before it in the interval. MARK: 0. */
  readonly count: number;
  readonly payloadBytes: number;
  readonly payloadCrc32: number;
};

export const HRL_ERRORS = defineErrors({
  HRL_INVALID: {
    retryable: false,
    hint: "The replication data was damaged on its way or comes from an incompatible agent. Compare the versions of the mobility service and the process server.",
  },
});

/** Writes `header` to `target` at `offset`; 64 bytes. Allocates nothing. */
export function encodeHrlHeader(header: HrlHeader, target: Buffer, offset: number): void {
  checkHeader(header, (message) => assert(false, message));
  target.fill(0, offset, offset + HRL_HEADER_BYTES);
  target.writeUInt32LE(MAGIC, offset);
  target[offset + 4] = VERSION;
  target[offset + 5] = header.type;
  writeU64(target, header.session, offset + 8);
  target.writeUInt32LE(header.interval, offset + 16);
  target.writeUInt32LE(header.recordNo, offset + 20);
  writeU64(target, header.block, offset + 24);
  target.writeUInt32LE(header.count, offset + 32);
  target.writeUInt32LE(header.payloadBytes, offset + 36);
  target.writeUInt32LE(header.payloadCrc32, offset + 40);
  target.writeUInt32LE(crc32(target.subarray(offset, offset + 60)), offset + 60);
}

/** Reads the header at `offset` of `source`, which holds at least 64 bytes there. Throws HRL_INVALID. */
export function decodeHrlHeader(source: Buffer, offset: number): HrlHeader {
  const fail = (message: string): never => {
    throw new OsrError(HRL_ERRORS.HRL_INVALID, `record at byte ${offset}: ${message}`, {
      details: { offset },
    });
  };
  if (source.length - offset < HRL_HEADER_BYTES) fail("truncated header");
  if (source.readUInt32LE(offset) !== MAGIC) fail("wrong magic");
  if (source.readUInt32LE(offset + 60) !== crc32(source.subarray(offset, offset + 60)))
    fail("header checksum differs");
  if (source[offset + 4] !== VERSION) fail(`version ${source[offset + 4]} is not known`);
  // Codec and flags are 0 in version 1, as are the reserved bytes.
  if (source.readUInt16LE(offset + 6) !== 0) fail("codec or flags are not known");
  for (let i = offset + 44; i < offset + 60; i++) if (source[i] !== 0) fail("reserved bytes set");
  const header = {
    type: source[offset + 5] as HrlType,
    session: readU64(source, offset + 8),
    interval: source.readUInt32LE(offset + 16),
    recordNo: source.readUInt32LE(offset + 20),
    block: readU64(source, offset + 24),
    count: source.readUInt32LE(offset + 32),
    payloadBytes: source.readUInt32LE(offset + 36),
    payloadCrc32: source.readUInt32LE(offset + 40),
  };
  checkHeader(header, fail);
  return header;
}

function checkHeader(header: HrlHeader, fail: (message: string) => void): void {
  const { type, block, count, payloadBytes } = header;
  const isBlocks = type === HRL_TYPES.DATA || type === HRL_TYPES.ZERO;
  if (!isBlocks && type !== HRL_TYPES.MARK && type !== HRL_TYPES.END)
    fail(`type ${type} is not known`);
  if (payloadBytes > HRL_PAYLOAD_BYTES_MAX) fail(`payload of ${payloadBytes} bytes is too long`);
  if (!Number.isSafeInteger(header.session) || !Number.isSafeInteger(block))
    fail("number too large");
  if (isBlocks ? count === 0 || block + count > U32 : block !== 0)
    fail("range of blocks is not valid");
  if (type === HRL_TYPES.DATA && payloadBytes !== count * BLOCK_BYTES)
    fail("payload does not fit its blocks");
  if (type === HRL_TYPES.MARK && (count !== 0 || payloadBytes === 0))
    fail("a MARK has a payload and no count");
  if ((type === HRL_TYPES.ZERO || type === HRL_TYPES.END) && payloadBytes !== 0)
    fail("payload is not expected");
}

export type HrlRecord = { readonly header: HrlHeader; readonly payload: Buffer };

/** The records of a batch, payloads checked and not copied. Throws HRL_INVALID. */
export function* hrlRecords(batch: Buffer): Generator<HrlRecord> {
  for (let offset = 0; offset < batch.length;) {
    const header = decodeHrlHeader(batch, offset);
    const start = offset + HRL_HEADER_BYTES;
    const payload = batch.subarray(start, start + header.payloadBytes);
    if (payload.length < header.payloadBytes)
      throw new OsrError(HRL_ERRORS.HRL_INVALID, `record at byte ${offset}: truncated payload`);
    if (crc32(payload) !== header.payloadCrc32)
      throw new OsrError(
        HRL_ERRORS.HRL_INVALID,
        `record at byte ${offset}: payload checksum differs`,
      );
    yield { header, payload };
    offset = start + header.payloadBytes;
  }
}

function writeU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

function readU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}
