import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import { SEGMENT_FOOTER_BYTES, decodeFooter, encodeFooter } from "./segment-footer.ts";
import { assertCoded } from "./testing/coded-error.ts";

const u32 = fc.nat(2 ** 32 - 1);
const footers = fc
  .record({
    blocks: fc.nat(1000),
    indexBytes: fc.nat(5000),
    directoryBytes: fc.nat(200),
    frameCount: u32,
    runCount: u32,
    zeroRunCount: u32,
    slot: fc.maxSafeNat(),
  })
  .map(({ blocks, ...counts }) => ({
    ...counts,
    isFence: false,
    endsWithTag: true,
    indexOffset: 128 + blocks * 16,
    previousHead: Buffer.alloc(32, 1),
    contentSha256: Buffer.alloc(32, 2),
  }));

export const segmentFooterFuzz = fuzzTarget(
  "segment-footer",
  "footers of segments, with wrong and with right checksums: an error, or a layout that fits the object",
  fc.property(footers, fc.boolean(), fc.nat(64), mutations, (footer, isResealed, more, changes) => {
    const objectBytes = footer.indexOffset + footer.indexBytes + SEGMENT_FOOTER_BYTES + more;
    const bytes = mutated(encodeFooter(footer), changes);
    if (isResealed && bytes.length === SEGMENT_FOOTER_BYTES)
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 120)), 120);
    try {
      const read = decodeFooter(bytes, objectBytes);
      assert.ok(encodeFooter(read).equals(bytes));
      assert.equal(read.indexOffset + read.indexBytes + SEGMENT_FOOTER_BYTES, objectBytes);
      assert.ok(read.directoryBytes <= read.indexBytes);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);
