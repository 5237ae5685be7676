import type { Extent } from "@osr/base/block-source";

import {
  ALLOCATION,
  ALLOCATION_CONTEXT_ID,
  CHUNK_FLAG_DONE,
  CHUNK_TYPES,
  MAGIC,
} from "./nbd-protocol.ts";

export const REQUEST_HEADER_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
const CHUNK_HEADER_BYTES = 20;
/** Header of a chunk of data, its offset included. */
export const DATA_CHUNK_HEADER_BYTES = CHUNK_HEADER_BYTES + 8;
const U32 = 2 ** 32;

/** One request of the client. The cookie is given back with every reply; it is kept as two numbers to avoid a copy. */
export type Request = {
  readonly flags: number;
  readonly command: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Above 2^53 it is not exact, but still beyond the end of every disk. */
  readonly offset: number;
  readonly bytes: number;
};

/** Undefined where the magic is wrong: the stream cannot be followed any more. */
export function decodeRequest(source: Buffer, at: number): Request | undefined {
  if (source.readUInt32BE(at) !== MAGIC.REQUEST) return undefined;
  return {
    flags: source.readUInt16BE(at + 4),
    command: source.readUInt16BE(at + 6),
    cookieHigh: source.readUInt32BE(at + 8),
    cookieLow: source.readUInt32BE(at + 12),
    offset: source.readUInt32BE(at + 16) * U32 + source.readUInt32BE(at + 20),
    bytes: source.readUInt32BE(at + 24),
  };
}

/** Writes a simple reply of 16 bytes at `at`. */
export function writeSimpleReply(
  target: Buffer,
  at: number,
  request: Request,
  error: number,
): void {
  target.writeUInt32BE(MAGIC.SIMPLE_REPLY, at);
  target.writeUInt32BE(error, at + 4);
  writeCookie(target, at + 8, request);
}

/** Writes the header of a chunk of data, 28 bytes, at `at`; the data follows it. */
export function writeDataChunkHeader(
  target: Buffer,
  at: number,
  request: Request,
  chunk: { readonly offset: number; readonly bytes: number; readonly done: boolean },
): void {
  writeChunkHeader(target, at, request, CHUNK_TYPES.OFFSET_DATA, chunk.done, 8 + chunk.bytes);
  writeU64(target, at + CHUNK_HEADER_BYTES, chunk.offset);
}

/** A range that reads as zeros, without the zeros. */
export function encodeHoleChunk(
  request: Request,
  chunk: { readonly offset: number; readonly bytes: number; readonly done: boolean },
): Buffer {
  const target = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + 12);
  writeChunkHeader(target, 0, request, CHUNK_TYPES.OFFSET_HOLE, chunk.done, 12);
  writeU64(target, CHUNK_HEADER_BYTES, chunk.offset);
  target.writeUInt32BE(chunk.bytes, CHUNK_HEADER_BYTES + 8);
  return target;
}

/** The last chunk of a request that has nothing more to say. */
export function encodeNoneChunk(request: Request): Buffer {
  const target = Buffer.allocUnsafe(CHUNK_HEADER_BYTES);
  writeChunkHeader(target, 0, request, CHUNK_TYPES.NONE, true, 0);
  return target;
}

/** The last chunk of a request that failed. `message` is for people: an error code of ours, ASCII. */
export function encodeErrorChunk(request: Request, error: number, message: string): Buffer {
  const target = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + 6 + message.length);
  writeChunkHeader(target, 0, request, CHUNK_TYPES.ERROR, true, 6 + message.length);
  target.writeUInt32BE(error, CHUNK_HEADER_BYTES);
  target.writeUInt16BE(message.length, CHUNK_HEADER_BYTES + 4);
  target.write(message, CHUNK_HEADER_BYTES + 6, "latin1");
  return target;
}

/** Block status of adjacent extents, in `base:allocation`. */
export function encodeBlockStatusChunk(request: Request, extents: readonly Extent[]): Buffer {
  const target = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + 4 + 8 * extents.length);
  writeChunkHeader(target, 0, request, CHUNK_TYPES.BLOCK_STATUS, true, 4 + 8 * extents.length);
  target.writeUInt32BE(ALLOCATION_CONTEXT_ID, CHUNK_HEADER_BYTES);
  let at = CHUNK_HEADER_BYTES + 4;
  for (const extent of extents) {
    target.writeUInt32BE(extent.bytes, at);
    target.writeUInt32BE(extent.zero ? ALLOCATION.HOLE_AND_ZERO : ALLOCATION.DATA, at + 4);
    at += 8;
  }
  return target;
}

function writeChunkHeader(
  target: Buffer,
  at: number,
  request: Request,
  type: number,
  done: boolean,
  bytes: number,
): void {
  target.writeUInt32BE(MAGIC.STRUCTURED_REPLY, at);
  target.writeUInt16BE(done ? CHUNK_FLAG_DONE : 0, at + 4);
  target.writeUInt16BE(type, at + 6);
  writeCookie(target, at + 8, request);
  target.writeUInt32BE(bytes, at + 16);
}

function writeCookie(target: Buffer, at: number, request: Request): void {
  target.writeUInt32BE(request.cookieHigh, at);
  target.writeUInt32BE(request.cookieLow, at + 4);
}

function writeU64(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / U32), at);
  target.writeUInt32BE(value % U32, at + 4);
}
