import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import {
  FRAME_HEADER_BYTES,
  checkFrame,
  decodeFrame,
  encodeFrame,
  frameBytesMax,
  prepareFrameContext,
} from "./frame.ts";
import { assertCoded } from "./testing/coded-error.ts";
import { seededRandomness } from "./testing/seeded-randomness.ts";

const id = uuidOfName("frame");
const context = prepareFrameContext({ vaultId: id, diskId: id, timeline: 1, objectId: id });
const key = Buffer.alloc(32, 5);

const plains = fc
  .record({ blocks: fc.integer({ min: 1, max: 3 }), isText: fc.boolean(), seed: fc.nat(1000) })
  .map(({ blocks, isText, seed }) =>
    isText
      ? Buffer.alloc(blocks * 4096, `text ${seed}`)
      : seededRandomness(String(seed)).bytes(blocks * 4096),
  );

export const frameFuzz = fuzzTarget(
  "frame",
  "frames, with wrong and with right checksums: an error, or exactly the blocks that were encoded",
  fc.property(plains, fc.nat(9), fc.boolean(), mutations, (plain, frameNo, isResealed, changes) => {
    const target = Buffer.alloc(frameBytesMax(plain.length / 4096));
    const { bytes } = encodeFrame({ plain, frameNo, key, context, target, targetOffset: 0 });
    const frame = mutated(target.subarray(0, bytes), changes);
    if (isResealed && frame.length > FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + frame.readUIntLE(4, 3) + 16;
      frame.writeUInt32LE(crc32(frame.subarray(FRAME_HEADER_BYTES, end)), 12);
    }
    try {
      const info = checkFrame(frame, 0);
      assert.ok(info.bytes <= frame.length && info.blocks >= 1 && info.blocks <= 16);
      assert.ok(decodeFrame({ bytes: frame, key, context, frameNo }).equals(plain));
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);
