import assert from "node:assert/strict";
import { test } from "node:test";

import type { BlockSource, Extent } from "@osr/base/block-source";
import { MIB } from "@osr/base/units";
import { isZero } from "@osr/base/zero";

const EXTENT_BYTES = 4096;

/**
 * The naive model of a block source: bytes in memory. It counts its reads and can be made to fail or to wait, so that
 * tests see what their subject does with it.
 */
export class ModelSource implements BlockSource {
  readonly bytes: Buffer;
  readonly reads: { readonly offset: number; readonly bytes: number }[] = [];
  /** Called before each read; throw to fail it, wait to delay it. */
  beforeRead: (offset: number, bytes: number, signal?: AbortSignal) => Promise<void> =
    async () => {};
  readsUnderWay = 0;
  disposed = false;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    assert.ok(!this.disposed, "nothing reads a disposed source");
    assert.ok(offset >= 0 && offset + target.byteLength <= this.sizeBytes, "within the source");
    signal?.throwIfAborted();
    this.reads.push({ offset, bytes: target.byteLength });
    this.readsUnderWay += 1;
    try {
      await this.beforeRead(offset, target.byteLength, signal);
      this.bytes.copy(target, 0, offset, offset + target.byteLength);
    } finally {
      this.readsUnderWay -= 1;
    }
  }

  async extents(offset: number, bytes: number): Promise<readonly Extent[]> {
    assert.ok(!this.disposed, "nothing reads a disposed source");
    assert.ok(bytes > 0 && offset >= 0 && offset + bytes <= this.sizeBytes, "within the source");
    const extents: Extent[] = [];
    for (let at = offset; at < offset + bytes;) {
      const end = Math.min((Math.floor(at / EXTENT_BYTES) + 1) * EXTENT_BYTES, offset + bytes);
      extents.push({ offset: at, bytes: end - at, zero: isZero(this.bytes.subarray(at, end)) });
      at = end;
    }
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    assert.equal(this.readsUnderWay, 0, "no read is under way when a source is disposed");
    this.disposed = true;
  }
}

/** Bytes that differ from one another, with zero areas from single blocks to megabytes; the same for every seed. */
export function modelBytes(sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state;
  };
  for (let at = 0; at < sizeBytes;) {
    const length = EXTENT_BYTES * (1 + (next() % (next() % 4 === 0 ? 512 : 24)));
    const end = Math.min(at + length, sizeBytes);
    if (next() % 3 > 0)
      for (let i = at; i + 4 <= end; i += 4) bytes.writeUInt32LE((next() | 1) >>> 0, i);
    at = end;
  }
  return bytes;
}

/** What every block source keeps to; `open` gives one that holds the bytes. */
export function blockSourceContract(
  name: string,
  open: (bytes: Buffer) => Promise<BlockSource>,
): void {
  const bytes = modelBytes(3 * MIB + 12_345);

  test(`${name}: reads at any alignment give the bytes`, async () => {
    await using source = await open(bytes);
    assert.equal(source.sizeBytes, bytes.length);
    const ranges = [
      [0, 1],
      [0, bytes.length],
      [4095, 2],
      [65_535, 131_074],
      [bytes.length - 1, 1],
      [1_000_003, 500_009],
      [bytes.length, 0],
    ] as const;
    await Promise.all(
      ranges.map(async ([offset, length]) => {
        const target = Buffer.alloc(length, 0xaa);
        await source.read(offset, target);
        assert.ok(target.equals(bytes.subarray(offset, offset + length)), `${offset} + ${length}`);
      }),
    );
  });

  test(`${name}: extents cover the range without gaps, and zero extents are zero`, async () => {
    await using source = await open(bytes);
    for (const [offset, length] of [
      [0, bytes.length],
      [5000, 100_000],
      [bytes.length - 10, 10],
    ] as const) {
      let at = offset;
      for (const extent of await source.extents(offset, length)) {
        assert.equal(extent.offset, at);
        assert.ok(extent.bytes > 0);
        if (extent.zero) assert.ok(isZero(bytes.subarray(at, at + extent.bytes)));
        at += extent.bytes;
      }
      assert.equal(at, offset + length);
    }
  });

  test(`${name}: a read that was aborted before rejects with the reason`, async () => {
    await using source = await open(bytes);
    const reason = new Error("not needed any more");
    await assert.rejects(source.read(0, Buffer.alloc(10), AbortSignal.abort(reason)), reason);
  });
}
