import assert from "node:assert/strict";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { hasCode } from "@osr/base/errors";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import {
  HRL_ERRORS,
  HRL_HEADER_BYTES,
  HRL_TYPES,
  type HrlHeader,
  decodeHrlHeader,
  encodeHrlHeader,
  hrlRecords,
} from "./hrl-record.ts";

const { DATA, ZERO, MARK } = HRL_TYPES;

const records = fc
  .record({
    type: fc.constantFrom(...Object.values(HRL_TYPES)),
    session: fc.maxSafeNat(),
    interval: fc.nat(2 ** 32 - 1),
    recordNo: fc.nat(2 ** 32 - 1),
    block: fc.nat(2 ** 32 - 5),
    count: fc.integer({ min: 1, max: 4 }),
    fill: fc.nat(255),
  })
  .map(({ type, fill, block, count, ...numbers }) => {
    const isBlocks = type === DATA || type === ZERO;
    const bytes = type === DATA ? count * 4096 : type === MARK ? 1 + fill : 0;
    const payload = Buffer.alloc(bytes, fill);
    const range = { block: isBlocks ? block : 0, count: type === MARK ? 0 : count };
    return { header: { ...numbers, type, ...range }, payload };
  });

function encoded(header: HrlHeader): Buffer {
  const bytes = Buffer.alloc(HRL_HEADER_BYTES);
  encodeHrlHeader(header, bytes, 0);
  return bytes;
}

function batchOf(list: readonly { header: object; payload: Buffer }[]): Buffer {
  return Buffer.concat(
    list.flatMap(({ header, payload }) => {
      const sums = { payloadBytes: payload.length, payloadCrc32: crc32(payload) };
      return [encoded({ ...(header as HrlHeader), ...sums }), payload];
    }),
  );
}

/** Records that are accepted are the very bytes that were read; all else is HRL_INVALID. */
export const hrlRecordsFuzz = fuzzTarget(
  "hrl-records",
  "HRL records that were cut, flipped, moved or repeated: refused, or read as the bytes are",
  fc.property(fc.array(records, { minLength: 1, maxLength: 5 }), mutations, (list, changes) => {
    const batch = mutated(batchOf(list), changes);
    let offset = 0;
    try {
      for (const { header, payload } of hrlRecords(batch)) {
        const end = offset + HRL_HEADER_BYTES;
        assert.ok(encoded(header).equals(batch.subarray(offset, end)));
        assert.ok(payload.equals(batch.subarray(end, end + header.payloadBytes)));
        assert.equal(crc32(payload), header.payloadCrc32);
        offset = end + payload.length;
      }
      assert.equal(offset, batch.length);
    } catch (error) {
      if (!hasCode(error, HRL_ERRORS.HRL_INVALID)) throw error;
    }
  }),
);

/** With a right checksum the fields themselves are tried. */
export const hrlHeaderFuzz = fuzzTarget(
  "hrl-header",
  "HRL headers with any fields and a right checksum: refused, or they encode to the same bytes",
  fc.property(records, mutations, ({ header, payload }, changes) => {
    const sums = { payloadBytes: payload.length, payloadCrc32: crc32(payload) };
    const bytes = mutated(encoded({ ...header, ...sums }), changes);
    if (bytes.length >= HRL_HEADER_BYTES)
      bytes.writeUInt32LE(crc32(bytes.subarray(0, HRL_HEADER_BYTES - 4)), HRL_HEADER_BYTES - 4);
    try {
      const again = encoded(decodeHrlHeader(bytes, 0));
      assert.ok(again.equals(bytes.subarray(0, HRL_HEADER_BYTES)));
    } catch (error) {
      if (!hasCode(error, HRL_ERRORS.HRL_INVALID)) throw error;
    }
  }),
);
