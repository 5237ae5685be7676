import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";

import {
  HRL_DATA_BLOCKS_MAX,
  HRL_ERRORS,
  HRL_HEADER_BYTES,
  HRL_PAYLOAD_BYTES_MAX,
  HRL_TYPES,
  type HrlHeader,
  decodeHrlHeader,
  encodeHrlHeader,
  hrlRecords,
} from "./hrl-record.ts";
import { decodeTag } from "./tag.ts";

type Fields = Omit<HrlHeader, "payloadBytes" | "payloadCrc32">;

function record(fields: Fields, payload: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(HRL_HEADER_BYTES + payload.length, 0xee);
  const payloadCrc32 = crc32(payload);
  encodeHrlHeader({ ...fields, payloadBytes: payload.length, payloadCrc32 }, bytes, 0);
  payload.copy(bytes, HRL_HEADER_BYTES);
  return bytes;
}

const { DATA, ZERO, MARK, END } = HRL_TYPES;
const base = { session: 5, interval: 6, recordNo: 7, block: 0, count: 0 };

const records = fc
  .record({
    type: fc.constantFrom(DATA, ZERO, MARK, END),
    session: fc.maxSafeNat(),
    interval: fc.nat(2 ** 32 - 1),
    recordNo: fc.nat(2 ** 32 - 1),
    block: fc.nat(2 ** 32 - 5),
    count: fc.integer({ min: 1, max: 4 }),
    fill: fc.nat(255),
  })
  .map(({ type, fill, block, count, ...numbers }) => {
    const isBlocks = type === DATA || type === ZERO;
    const fields = {
      ...numbers,
      type,
      block: isBlocks ? block : 0,
      count: type === MARK ? 0 : count,
    };
    const bytes = type === DATA ? count * 4096 : type === MARK ? 1 + fill : 0;
    return { fields, payload: Buffer.alloc(bytes, fill) };
  });

function invalid(error: unknown): boolean {
  return error instanceof OsrError && error.code === HRL_ERRORS.HRL_INVALID.code;
}

test("records give back what was written, in order", () => {
  fc.assert(
    fc.property(fc.array(records, { maxLength: 8 }), (list) => {
      const batch = Buffer.concat(list.map(({ fields, payload }) => record(fields, payload)));
      const read = [...hrlRecords(batch)];
      assert.equal(read.length, list.length);
      read.forEach(({ header, payload }, i) => {
        const { payloadBytes, payloadCrc32, ...fields } = header;
        assert.deepEqual(fields, list[i]?.fields);
        assert.ok(payload.equals(list[i]?.payload ?? Buffer.alloc(1)));
        assert.deepEqual([payloadBytes, payloadCrc32], [payload.length, crc32(payload)]);
      });
    }),
    { numRuns: 200 },
  );
});

test("a flipped bit anywhere in header or payload is found", () => {
  const bytes = record({ ...base, type: DATA, block: 9, count: 1 }, Buffer.alloc(4096, "payload"));
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const copy = Buffer.from(bytes);
    const at = Math.floor(bit / 8);
    copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
    assert.throws(() => [...hrlRecords(copy)], invalid, `bit ${bit}`);
  }
});

test("a batch that is cut anywhere but between records is refused", () => {
  const first = record({ ...base, type: DATA, count: 1 }, Buffer.alloc(4096, 1));
  const second = record({ ...base, type: END, recordNo: 8, count: 8 });
  const batch = Buffer.concat([first, second]);
  for (let length = 0; length <= batch.length; length++) {
    const read = (): unknown[] => [...hrlRecords(batch.subarray(0, length))];
    if (length === 0 || length === first.length || length === batch.length) read();
    else assert.throws(read, invalid, `${length} bytes`);
  }
});

test("any bytes are refused or are records that encode to them", () => {
  const valid = record({ ...base, type: DATA, block: 3, count: 1 }, Buffer.alloc(4096, 2));
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      fc.nat(valid.length),
      fc.boolean(),
      (noise, at, fixed) => {
        const bytes = Buffer.from(valid);
        bytes.set(noise.subarray(0, bytes.length - at), at);
        // With a right checksum the fields themselves are tried.
        if (fixed) bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
        try {
          const header = decodeHrlHeader(bytes, 0);
          const again = Buffer.alloc(HRL_HEADER_BYTES);
          encodeHrlHeader(header, again, 0);
          assert.ok(again.equals(bytes.subarray(0, HRL_HEADER_BYTES)));
          assert.ok(header.payloadBytes <= HRL_PAYLOAD_BYTES_MAX);
        } catch (error) {
          if (!invalid(error)) throw error;
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test("a replayed or reordered record is whole: its numbers tell, and they come back as written", () => {
  const list = [2, 0, 0, 1].map((recordNo) => record({ ...base, type: ZERO, recordNo, count: 1 }));
  const numbers = [...hrlRecords(Buffer.concat(list))].map(({ header }) => header.recordNo);
  assert.deepEqual(numbers, [2, 0, 0, 1]);
});

test("fields that make no sense are refused although their checksum is right", () => {
  const change = (offset: number, bytes: number, value: number, source: Buffer): Buffer => {
    const copy = Buffer.from(source);
    copy.writeUIntLE(value, offset, bytes);
    copy.writeUInt32LE(crc32(copy.subarray(0, 60)), 60);
    return copy;
  };
  const data = record({ ...base, type: DATA, block: 3, count: 1 }, Buffer.alloc(4096));
  const zero = record({ ...base, type: ZERO, block: 2 ** 32 - 1, count: 1 });
  const mark = record({ ...base, type: MARK }, Buffer.from("{}"));
  const end = record({ ...base, type: END });
  const wrong: Record<string, Buffer> = {
    version: change(4, 1, 2, data),
    "type 0": change(5, 1, 0, data),
    "type 5": change(5, 1, 5, data),
    codec: change(6, 1, 1, data),
    flags: change(7, 1, 1, data),
    "session beyond 2^53": change(14, 2, 0x20, data),
    "count 0": change(32, 4, 0, data),
    "count without its payload": change(32, 4, 2, data),
    "payload too long": change(36, 4, HRL_PAYLOAD_BYTES_MAX + 4096, data),
    "blocks beyond the largest disk": change(32, 4, 2, zero),
    "zeros with a payload": change(36, 4, 1, zero),
    "mark without payload": change(36, 4, 0, mark),
    "mark with a block": change(24, 4, 1, mark),
    "end with a payload": change(36, 4, 1, end),
    "end with a block": change(24, 4, 1, end),
    reserved: change(50, 1, 1, end),
  };
  for (const [name, bytes] of Object.entries(wrong))
    assert.throws(() => decodeHrlHeader(bytes, 0), invalid, name);
  assert.throws(() => decodeHrlHeader(end.subarray(0, 63), 0), invalid);
});

test("an encoder refuses what a decoder would", () => {
  const target = Buffer.alloc(64);
  const numbers = { ...base, payloadBytes: 0, payloadCrc32: 0 };
  for (const header of [
    { ...numbers, type: ZERO, count: 0 },
    { ...numbers, type: DATA, count: 1 },
    { ...numbers, type: MARK },
    { ...numbers, type: END, session: 2 ** 53 },
    {
      ...numbers,
      type: DATA,
      count: HRL_DATA_BLOCKS_MAX + 1,
      payloadBytes: HRL_PAYLOAD_BYTES_MAX + 4096,
    },
  ])
    assert.throws(() => encodeHrlHeader(header, target, 0), { code: "INTERNAL_ASSERTION" });
});

test("hrl/v1: golden bytes", async () => {
  const folder = join(import.meta.dirname, "../../../interop/hrl/v1");
  const bytes = await readFile(join(folder, "records.bin"));
  const tag = await readFile(join(folder, "tag.bin"));
  const read = [...hrlRecords(bytes)];
  const numbers = { session: 1_700_000_000, interval: 4 };
  const payload = Buffer.alloc(8192, "Open Site Recovery ");
  const expected: readonly (readonly [Fields, Buffer])[] = [
    [{ ...numbers, type: DATA, recordNo: 0, block: 2 ** 31 + 5, count: 2 }, payload],
    [{ ...numbers, type: ZERO, recordNo: 1, block: 7, count: 2 ** 31 }, Buffer.alloc(0)],
    [{ ...numbers, type: MARK, recordNo: 2, block: 0, count: 0 }, tag],
    [{ ...numbers, type: END, recordNo: 3, block: 0, count: 3 }, Buffer.alloc(0)],
  ];
  assert.equal(read.length, expected.length);
  const again = Buffer.concat(expected.map(([fields, payload]) => record(fields, payload)));
  assert.ok(again.equals(bytes));
  assert.equal(decodeTag(read[2]?.payload ?? Buffer.alloc(0)).slot, 113_333_333);
});
