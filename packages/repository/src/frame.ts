import { createCipheriv, createDecipheriv } from "node:crypto";
import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { freeBuffer } from "@osr/base/free-buffer";
import { type Uuid, uuidToBytes } from "@osr/base/uuid";

import { FORMAT_VERSION } from "./object-header.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { packZstd, packedBytesMax, unpackZstd } from "./zstd-context.ts";

/** Frames: docs/formats/segment.md. Blocks of one frame. */
export const FRAME_BLOCKS_MAX = 16;
export const FRAME_HEADER_BYTES = 24;
const TAG_BYTES = 16;
const ALIGNMENT_BYTES = 16;

const CODECS = { AS_IS: 0, ZSTD: 1 } as const;

/** A frame that unpacks to more than its blocks must be seen to. */
const UNPACK_SLACK_BYTES = 16;

/** Memory into which any frame can be decoded. */
export const FRAME_MEMORY_BYTES = FRAME_BLOCKS_MAX * BLOCK_BYTES + UNPACK_SLACK_BYTES;

/** Where content is packed before it is encrypted: one for each thread. */
const PACKED = Buffer.allocUnsafeSlow(packedBytesMax(FRAME_BLOCKS_MAX * BLOCK_BYTES));

/** Where a frame was encoded first. Can be sent to a worker thread. */
export type FrameOrigin = {
  readonly vaultId: Uuid;
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly objectId: Uuid;
};

/** A prepared origin: scratch memory of one thread, reused for every frame. */
export type FrameContext = { readonly aad: Buffer; readonly nonce: Buffer };

/** What a frame says about itself. */
export type FrameInfo = {
  /** Of the whole frame: header, ciphertext, tag, padding. */
  readonly bytes: number;
  readonly blocks: number;
  readonly frameNo: number;
  readonly cipherBytes: number;
};

const AAD_BYTES = 64;
const AAD_FRAME_NO = 56;
const AAD_PLAIN_BYTES = 60;

export function prepareFrameContext(origin: FrameOrigin): FrameContext {
  const aad = Buffer.alloc(AAD_BYTES);
  aad.writeUInt16LE(FORMAT_VERSION, 0);
  aad.writeUInt32LE(origin.timeline, 4);
  uuidToBytes(origin.vaultId).copy(aad, 8);
  uuidToBytes(origin.diskId).copy(aad, 24);
  uuidToBytes(origin.objectId).copy(aad, 40);
  return { aad, nonce: Buffer.alloc(12) };
}

/** Bytes of a frame with `cipherBytes` of ciphertext. */
export function frameBytesOf(cipherBytes: number): number {
  const bytes = FRAME_HEADER_BYTES + cipherBytes + TAG_BYTES;
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** The most that a frame of `blocks` blocks can take. */
export function frameBytesMax(blocks: number): number {
  return frameBytesOf(blocks * BLOCK_BYTES);
}

export type EncodeFrameInput = {
  /** 1 to 16 whole blocks. */
  readonly plain: Buffer;
  /** Never used before under `key`. */
  readonly frameNo: number;
  readonly key: Buffer;
  readonly context: FrameContext;
  /** Has frameBytesMax(blocks) bytes from `targetOffset` on. */
  readonly target: Buffer;
  readonly targetOffset: number;
};

/** Compresses and encrypts one frame into `target`. Synchronous: it runs in worker threads and on the main one. */
export function encodeFrame(input: EncodeFrameInput): {
  readonly bytes: number;
  readonly cipherBytes: number;
} {
  const { plain, frameNo, target, targetOffset } = input;
  const blocks = plain.length / BLOCK_BYTES;
  assert(
    Number.isInteger(blocks) && blocks >= 1 && blocks <= FRAME_BLOCKS_MAX,
    "1 to 16 whole blocks",
  );
  const packedBytes = packZstd(plain, PACKED);
  const shrinks = packedBytes < plain.length;
  const content = shrinks ? PACKED.subarray(0, packedBytes) : plain;
  const codec = shrinks ? CODECS.ZSTD : CODECS.AS_IS;
  fillContext(input.context, frameNo, plain.length, codec);
  const cipher = createCipheriv("aes-256-gcm", input.key, input.context.nonce);
  cipher.setAAD(input.context.aad);
  const start = targetOffset + FRAME_HEADER_BYTES;
  const sealed = cipher.update(content);
  sealed.copy(target, start);
  freeBuffer(sealed);
  cipher.final();
  const cipherEnd = start + content.length;
  cipher.getAuthTag().copy(target, cipherEnd);
  const bytes = frameBytesOf(content.length);
  target.fill(0, cipherEnd + TAG_BYTES, targetOffset + bytes);
  target.writeUIntLE(plain.length, targetOffset, 3);
  target[targetOffset + 3] = codec;
  target.writeUIntLE(content.length, targetOffset + 4, 3);
  target[targetOffset + 7] = 0;
  target.writeUInt32LE(0, targetOffset + 8);
  target.writeUInt32LE(crc32(target.subarray(start, cipherEnd + TAG_BYTES)), targetOffset + 12);
  target.writeUInt32LE(frameNo, targetOffset + 16);
  target.writeUInt16LE(blocks, targetOffset + 20);
  target.writeUInt16LE(0, targetOffset + 22);
  return { bytes, cipherBytes: content.length };
}

/** Checks the frame at `offset` of `source` as far as that goes without keys. Throws FRAME_DAMAGED. */
export function checkFrame(source: Buffer, offset: number): FrameInfo {
  const info = frameInfoAt(source, offset);
  const cipherEnd = offset + FRAME_HEADER_BYTES + info.cipherBytes;
  const sealed = source.subarray(offset + FRAME_HEADER_BYTES, cipherEnd + TAG_BYTES);
  if (crc32(sealed) !== source.readUInt32LE(offset + 12)) damaged(offset, "checksum differs");
  for (let i = cipherEnd + TAG_BYTES; i < offset + info.bytes; i++)
    if (source[i] !== 0) damaged(offset, "padding is not zero");
  return info;
}

/** Header fields of the frame at `offset`, which must lie wholly in `source`. Throws FRAME_DAMAGED. */
function frameInfoAt(source: Buffer, offset: number): FrameInfo {
  if (source.length - offset < FRAME_HEADER_BYTES) damaged(offset, "truncated header");
  const plainBytes = source.readUIntLE(offset, 3);
  const codec = source[offset + 3];
  const cipherBytes = source.readUIntLE(offset + 4, 3);
  const blocks = source.readUInt16LE(offset + 20);
  if (blocks < 1 || blocks > FRAME_BLOCKS_MAX || plainBytes !== blocks * BLOCK_BYTES)
    damaged(offset, "number of blocks is not valid");
  const fits =
    codec === CODECS.AS_IS
      ? cipherBytes === plainBytes
      : codec === CODECS.ZSTD && cipherBytes > 0 && cipherBytes < plainBytes;
  if (!fits) damaged(offset, "codec and length are not valid");
  if (
    source[offset + 7] !== 0 ||
    source.readUInt32LE(offset + 8) !== 0 ||
    source.readUInt16LE(offset + 22) !== 0
  )
    damaged(offset, "reserved bytes are set");
  const bytes = frameBytesOf(cipherBytes);
  if (source.length - offset < bytes) damaged(offset, "truncated frame");
  return { bytes, blocks, frameNo: source.readUInt32LE(offset + 16), cipherBytes };
}

export type DecodeFrameInput = {
  /** Holds the frame from `offset` (default 0) on. */
  readonly bytes: Buffer;
  readonly offset?: number;
  readonly key: Buffer;
  readonly context: FrameContext;
  /** The number that the index gives for this place; a frame with another one was moved. */
  readonly frameNo?: number;
  /** FRAME_MEMORY_BYTES for the blocks; where it is absent, they get memory of their own. */
  readonly target?: Buffer;
};

/**
 * The blocks of a frame, a view of `target`. Throws FRAME_DAMAGED, or FRAME_UNAUTHENTIC where a whole frame does not open: wrong key, or a
 * frame of another object.
 */
export function decodeFrame(input: DecodeFrameInput): Buffer {
  const { bytes: source, key, context } = input;
  const offset = input.offset ?? 0;
  const { cipherBytes, blocks, frameNo } = checkFrame(source, offset);
  if (input.frameNo !== undefined && input.frameNo !== frameNo)
    damaged(offset, `frame ${frameNo} is in the place of frame ${input.frameNo}`);
  const plainBytes = blocks * BLOCK_BYTES;
  const codec = cipherBytes === plainBytes ? CODECS.AS_IS : CODECS.ZSTD;
  fillContext(context, frameNo, plainBytes, codec);
  const start = offset + FRAME_HEADER_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", key, context.nonce);
  decipher.setAAD(context.aad);
  decipher.setAuthTag(source.subarray(start + cipherBytes, start + cipherBytes + TAG_BYTES));
  const content = decipher.update(source.subarray(start, start + cipherBytes));
  try {
    decipher.final();
  } catch (cause) {
    throw new OsrError(
      REPOSITORY_ERRORS.FRAME_UNAUTHENTIC,
      `frame ${frameNo} does not open with this key`,
      { cause },
    );
  }
  const target = input.target ?? Buffer.allocUnsafeSlow(FRAME_MEMORY_BYTES);
  const bytes = codec === CODECS.AS_IS ? content.copy(target) : unpackZstd(content, target);
  freeBuffer(content);
  if (bytes === undefined) damaged(offset, "does not unpack");
  if (bytes !== plainBytes) damaged(offset, "unpacked length differs");
  return target.subarray(0, plainBytes);
}

function fillContext(
  context: FrameContext,
  frameNo: number,
  plainBytes: number,
  codec: number,
): void {
  context.aad.writeUInt32LE(frameNo, AAD_FRAME_NO);
  context.aad.writeUIntLE(plainBytes, AAD_PLAIN_BYTES, 3);
  context.aad[AAD_PLAIN_BYTES + 3] = codec;
  context.nonce.writeUInt32LE(frameNo, 0);
}

function damaged(offset: number, message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.FRAME_DAMAGED, `frame at byte ${offset}: ${message}`, {
    details: { offset },
  });
}
