import { crc32 } from "node:zlib";

import { assert } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { blockStretch } from "@osr/base/zero";
import {
  HRL_DATA_BLOCKS_MAX,
  HRL_HEADER_BYTES,
  HRL_TYPES,
  type HrlType,
  encodeHrlHeader,
} from "@osr/contracts/hrl-record";
import { type Tag, encodeTag } from "@osr/contracts/tag";

/** A tag of 1024 disks is 40 KiB. */
const TAG_ROOM_BYTES = 64 * 1024;

/** Bytes of a body for `blocks` of data. In the worst case every block is a record of its own, and zero ones stand between. */
export function batchBodyBytes(blocks: number): number {
  return blocks * (BLOCK_BYTES + 2 * HRL_HEADER_BYTES) + 4 * HRL_HEADER_BYTES + TAG_ROOM_BYTES;
}

/** Where a disk's stream is: the interval that is being written and its next record. */
export type StreamPosition = { session: number; interval: number; recordNo: number };

/** What is written into one batch, before it is sent. */
export type WrittenBatch = {
  readonly body: Buffer;
  readonly interval: number;
  readonly firstRecordNo: number;
  readonly lastRecordNo: number;
};

/**
 * Writes HRL records into the body of one batch. Numbers come from `position`, which it moves on. A ZERO record stays open
 * until something else is written, so that zeros of adjacent runs become one record.
 */
export class BatchWriter {
  readonly #body: Buffer;
  readonly #position: StreamPosition;
  readonly #firstRecordNo: number;
  #bytes = 0;
  #zeroStart = 0;
  #zeroCount = 0;

  constructor(body: Buffer, position: StreamPosition) {
    this.#body = body;
    this.#position = position;
    this.#firstRecordNo = position.recordNo;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0 && this.#zeroCount === 0;
  }

  /** Blocks that surely fit in, whatever they hold; room for a MARK and an END is kept. */
  get roomBlocks(): number {
    const room = this.#body.length - TAG_ROOM_BYTES - 4 * HRL_HEADER_BYTES - this.#bytes;
    return Math.max(0, Math.floor(room / (BLOCK_BYTES + 2 * HRL_HEADER_BYTES)));
  }

  /** Writes `count` blocks from `block` on, whose content lies in `memory` from `at` on, in blocks. */
  blocks(block: number, count: number, memory: Buffer, at: number): void {
    for (let done = 0; done < count;) {
      const zeros = blockStretch(memory, (at + done) * BLOCK_BYTES, count - done, true);
      if (zeros > 0) this.#zero(block + done, zeros);
      done += zeros;
      const countMax = Math.min(count - done, HRL_DATA_BLOCKS_MAX);
      const filled = blockStretch(memory, (at + done) * BLOCK_BYTES, countMax, false);
      if (filled > 0) this.#data(block + done, filled, memory, (at + done) * BLOCK_BYTES);
      done += filled;
    }
  }

  mark(tag: Tag): void {
    this.#flushZero();
    const payload = encodeTag(tag);
    assert(payload.length <= TAG_ROOM_BYTES, "the tag fits into its room");
    payload.copy(this.#body, this.#bytes + HRL_HEADER_BYTES);
    this.#header(HRL_TYPES.MARK, 0, 0, payload.length);
  }

  end(): void {
    this.#flushZero();
    this.#header(HRL_TYPES.END, 0, this.#position.recordNo, 0);
  }

  finish(): WrittenBatch {
    this.#flushZero();
    assert(this.#bytes > 0, "a batch has records");
    return {
      body: this.#body.subarray(0, this.#bytes),
      interval: this.#position.interval,
      firstRecordNo: this.#firstRecordNo,
      lastRecordNo: this.#position.recordNo - 1,
    };
  }

  #zero(block: number, count: number): void {
    if (this.#zeroCount > 0 && this.#zeroStart + this.#zeroCount === block) {
      this.#zeroCount += count;
      return;
    }
    this.#flushZero();
    this.#zeroStart = block;
    this.#zeroCount = count;
  }

  #flushZero(): void {
    if (this.#zeroCount === 0) return;
    this.#header(HRL_TYPES.ZERO, this.#zeroStart, this.#zeroCount, 0);
    this.#zeroCount = 0;
  }

  #data(block: number, count: number, memory: Buffer, from: number): void {
    this.#flushZero();
    const bytes = count * BLOCK_BYTES;
    memory.copy(this.#body, this.#bytes + HRL_HEADER_BYTES, from, from + bytes);
    this.#header(HRL_TYPES.DATA, block, count, bytes);
  }

  /** Writes the header of a record whose payload is in place, and moves behind it. */
  #header(type: HrlType, block: number, count: number, payloadBytes: number): void {
    const payloadAt = this.#bytes + HRL_HEADER_BYTES;
    const payload = this.#body.subarray(payloadAt, payloadAt + payloadBytes);
    const { session, interval, recordNo } = this.#position;
    const payloadCrc32 = payloadBytes === 0 ? 0 : crc32(payload);
    encodeHrlHeader(
      { type, session, interval, recordNo, block, count, payloadBytes, payloadCrc32 },
      this.#body,
      this.#bytes,
    );
    this.#position.recordNo += 1;
    this.#bytes = payloadAt + payloadBytes;
  }
}
