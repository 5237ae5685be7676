import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import { OBJECT_HEADER_BYTES, decodeObjectHeader, encodeObjectHeader } from "./object-header.ts";
import { assertCoded } from "./testing/coded-error.ts";

const id = uuidOfName("header");
const u32 = fc.integer({ min: 1, max: 2 ** 32 - 1 });
const headers = fc.record({
  kind: fc.nat(65_535),
  vaultId: fc.constant(id),
  diskId: fc.constant(id),
  timeline: u32,
  generation: u32,
  seq: fc.maxSafeNat().map((seq) => Math.max(1, seq)),
  objectId: fc.constant(id),
  keyVersion: fc.nat(2 ** 32 - 1),
  createdUnixMs: fc.maxSafeNat(),
});

export const objectHeaderFuzz = fuzzTarget(
  "object-header",
  "headers of objects, with wrong and with right checksums: an error, or the fields that are there",
  fc.property(headers, fc.boolean(), mutations, (header, isResealed, changes) => {
    const bytes = mutated(encodeObjectHeader(header), changes);
    if (isResealed && bytes.length >= OBJECT_HEADER_BYTES)
      bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
    try {
      const again = encodeObjectHeader(decodeObjectHeader(bytes));
      // Format and features that readers may pass over are not kept.
      assert.ok(again.subarray(20, 124).equals(bytes.subarray(20, 124)));
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    }
  }),
);
