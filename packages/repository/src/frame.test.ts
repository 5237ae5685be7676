import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { randomUuid } from "@osr/base/uuid";

import {
  checkFrame,
  decodeFrame,
  encodeFrame,
  frameBytesMax,
  prepareFrameContext,
} from "./frame.ts";
import { FrameScanner } from "./frame-scanner.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";
import { seededRandomness } from "./testing/seeded-randomness.ts";

const E = REPOSITORY_ERRORS;
const randomness = seededRandomness("frame");
const [vaultId, diskId, objectId, otherId] = Array.from({ length: 4 }, () =>
  randomUuid(randomness),
);
const origin = { vaultId, diskId, timeline: 1, objectId } as Parameters<
  typeof prepareFrameContext
>[0];
const context = prepareFrameContext(origin);
const key = randomness.bytes(32);

function encoded(plain: Buffer, frameNo: number): Buffer {
  const target = Buffer.alloc(frameBytesMax(plain.length / BLOCK_BYTES), 0xee);
  const { bytes } = encodeFrame({ plain, frameNo, key, context, target, targetOffset: 0 });
  return target.subarray(0, bytes);
}

const plains = fc
  .record({ blocks: fc.integer({ min: 1, max: 16 }), fill: fc.nat(3), seed: fc.nat(1000) })
  .map(({ blocks, fill, seed }) =>
    fill === 0
      ? seededRandomness(String(seed)).bytes(blocks * BLOCK_BYTES)
      : Buffer.alloc(blocks * BLOCK_BYTES, `text ${seed}`),
  );

test("a frame gives back its blocks and its numbers", () => {
  fc.assert(
    fc.property(plains, fc.nat(2 ** 32 - 1), (plain, frameNo) => {
      const frame = encoded(plain, frameNo);
      assert.equal(frame.length % 16, 0);
      assert.ok(decodeFrame({ bytes: frame, key, context, frameNo }).equals(plain));
      const { bytes, blocks, frameNo: found } = checkFrame(frame, 0);
      assert.deepEqual([bytes, blocks, found], [frame.length, plain.length / BLOCK_BYTES, frameNo]);
    }),
    { numRuns: 100 },
  );
});

test("content that does not shrink is stored as it is, and takes the most that is reserved", () => {
  const plain = randomness.bytes(BLOCK_BYTES);
  const frame = encoded(plain, 0);
  assert.equal(frame[3], 0);
  assert.equal(frame.length, frameBytesMax(1));
  assert.equal(encoded(Buffer.alloc(BLOCK_BYTES, "x"), 1)[3], 1);
});

test("a frame is written at its offset and nowhere else", () => {
  const target = Buffer.alloc(100 + frameBytesMax(1) + 100, 0xee);
  const plain = randomness.bytes(BLOCK_BYTES);
  const { bytes } = encodeFrame({ plain, frameNo: 2, key, context, target, targetOffset: 100 });
  const rest = Buffer.concat([target.subarray(0, 100), target.subarray(100 + bytes)]);
  assert.ok(rest.every((byte) => byte === 0xee));
  assert.ok(decodeFrame({ bytes: target, offset: 100, key, context }).equals(plain));
});

test("every flipped bit of a frame is found, without keys where its number is known", () => {
  const frame = encoded(Buffer.alloc(2 * BLOCK_BYTES, "some text"), 3);
  for (let bit = 0; bit < frame.length * 8; bit++) {
    const copy = Buffer.from(frame);
    const at = Math.floor(bit / 8);
    copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
    assert.throws(
      () => decodeFrame({ bytes: copy, key, context, frameNo: 3 }),
      coded(E.FRAME_DAMAGED),
    );
    if (at < 16 || at >= 20) assert.throws(() => checkFrame(copy, 0), coded(E.FRAME_DAMAGED));
  }
});

test("a frame opens only with its key, in its object, and with its number", () => {
  const frame = encoded(Buffer.alloc(BLOCK_BYTES, "x"), 3);
  const foreign = prepareFrameContext({ ...origin, objectId: otherId ?? origin.objectId });
  const child = prepareFrameContext({ ...origin, timeline: 2 });
  const wrongKey = Buffer.alloc(32);
  for (const changed of [{ context: foreign }, { context: child }, { key: wrongKey }])
    assert.throws(
      () => decodeFrame({ bytes: frame, key, context, ...changed }),
      coded(E.FRAME_UNAUTHENTIC),
    );
  assert.throws(
    () => decodeFrame({ bytes: frame, key, context, frameNo: 4 }),
    coded(E.FRAME_DAMAGED),
  );
});

test("any bytes in the place of a frame give an error of ours", () => {
  const frame = encoded(randomness.bytes(BLOCK_BYTES), 3);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.nat(frame.length),
      fc.boolean(),
      (noise, at, cut) => {
        const copy = cut ? Buffer.from(frame.subarray(0, at)) : Buffer.from(frame);
        copy.set(noise.subarray(0, Math.max(0, copy.length - at)), Math.min(at, copy.length));
        if (copy.equals(frame)) return;
        try {
          decodeFrame({ bytes: copy, key, context, frameNo: 3 });
          assert.fail("decoded");
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          assertCoded(error);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("a scanner finds frames in pieces of any length", () => {
  const frames = Array.from({ length: 40 }, (_, i) =>
    encoded(
      i % 3 === 0 ? randomness.bytes(16 * BLOCK_BYTES) : Buffer.alloc(BLOCK_BYTES, `${i}`),
      i,
    ),
  );
  const bytes = Buffer.concat(frames);
  for (const piece of [1000, 70_001, bytes.length]) {
    const scanner = new FrameScanner(128, 128 + bytes.length, { key, context });
    for (let at = 0; at < bytes.length; at += piece) scanner.feed(bytes.subarray(at, at + piece));
    assert.equal(scanner.frameCount, 40);
    scanner.checkRun(1, 128 + (frames[0]?.length ?? 0), 0, 1);
    assert.throws(() => scanner.checkRun(1, 128, 0, 1), coded(E.INDEX_DAMAGED));
    assert.throws(
      () => scanner.checkRun(1, 128 + (frames[0]?.length ?? 0), 0, 2),
      coded(E.INDEX_DAMAGED),
    );
  }
  const cut = new FrameScanner(128, 128 + bytes.length - 16, undefined);
  assert.throws(() => cut.feed(bytes.subarray(0, -16)), coded(E.FRAME_DAMAGED));
});
