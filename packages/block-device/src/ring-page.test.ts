import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CLEAN,
  DAMAGED,
  DISCARD,
  MISSED,
  READ,
  type RequestKind,
  RingPageReader,
  WRITE,
  ZEROES,
} from "./ring-page.ts";
import { parseRequestFormat, parseRingPageLayout } from "./trace-format.ts";

const HEADER_PAGE = `	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:0;
`;

const COMMON_FIELDS = `format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:int error;	offset:28;	size:4;	signed:1;
`;

/** Linux 6.18. */
const FORMAT_6_18 = `name: block_rq_complete
ID: 2107
${COMMON_FIELDS}	field:unsigned short ioprio;	offset:32;	size:2;	signed:0;
	field:char rwbs[10];	offset:34;	size:10;	signed:0;
	field:__data_loc char[] cmd;	offset:44;	size:4;	signed:0;

print fmt: "%d,%d %s (%s) %llu + %u %s,%u,%u [%d]", ((unsigned int) ((REC->dev) >> 20))
`;

/** Linux 6.1. */
const FORMAT_6_1 = `name: block_rq_complete
ID: 1138
${COMMON_FIELDS}	field:char rwbs[8];	offset:32;	size:8;	signed:0;
	field:__data_loc char[] cmd;	offset:40;	size:4;	signed:0;

print fmt: "%d,%d %s (%s) %llu + %u [%d]", ((unsigned int) ((REC->dev) >> 20))
`;

const LAYOUT = parseRingPageLayout(HEADER_PAGE);
const FORMAT = parseRequestFormat(FORMAT_6_18);

/** The start of a page that Linux 6.18 wrote: a synchronous write of 16 sectors, its flushes, and two reads. */
const RECORDED = `
  c243d5776902000088010000000000000d0000003b081000160000000000700000000000300000000000000010000000
  0000000004405753000000000000000030000100000000002dd378003b081000160000000000700000000000ffffffff
  ffffffff00000000000000000000464600000000000000003000010000000000cdbb00003b0811011600000000007000
  00000000300000000000000000000000000000000440575300000000000000003000010000000000ed9f27003b081000
  160000000000700000000000ffffffffffffffff00000000000000000000464600000000000000003000010000000000
  2d5500003b08110116000000000070000000000000000000000000000000000000000000044057530000000000000000
  30000100000000008d75951d3b0810001600000000007000000000004800000000000000080000000000000004405253
  000000000000000030000100000000004d22a30f3b081000160000000000700000000000801f00000000000008000000
  000000000440524100000000000000003000010000000000`;

type Request = readonly [device: number, kind: RequestKind, sector: number, count: number];

function readPage(reader: RingPageReader): { state: number; requests: Request[] } {
  const requests: Request[] = [];
  const state = reader.read({
    request: (device, kind, sector, count) => requests.push([device, kind, sector, count]),
  });
  return { state, requests };
}

function readerOf(page: Uint8Array, format = FORMAT): RingPageReader {
  const reader = new RingPageReader(LAYOUT, format);
  reader.page.set(page);
  return reader;
}

/** Writes pages as the kernel does, into the given format. */
class PageWriter {
  readonly page = Buffer.alloc(LAYOUT.pageBytes);
  readonly #format: typeof FORMAT;
  #end = LAYOUT.dataOffset;
  constructor(format = FORMAT) {
    this.#format = format;
  }
  raw(...words: readonly number[]): this {
    for (const word of words) this.#end = this.page.writeUInt32LE(word, this.#end);
    return this.commit();
  }
  request(letters: string, device: number, sector: bigint, count: number, large = false): this {
    const bytes = Math.ceil((this.#format.recordBytes + 4) / 4) * 4;
    if (large) this.raw(0, bytes + 4);
    else this.raw(bytes / 4);
    const start = this.#end;
    this.page.writeUInt16LE(this.#format.eventId, start);
    this.page.writeUInt32LE(device, start + this.#format.deviceOffset);
    this.page.writeBigUInt64LE(sector, start + this.#format.sectorOffset);
    this.page.writeUInt32LE(count, start + this.#format.sectorCountOffset);
    this.page.write(`${letters}\0`, start + this.#format.operationOffset, "latin1");
    this.#end += bytes;
    return this.commit();
  }
  commit(flags = 0): this {
    this.page.writeUInt32LE((flags + (this.#end - LAYOUT.dataOffset)) >>> 0, LAYOUT.commitOffset);
    return this;
  }
}

test("field offsets come from the kernel's own description", () => {
  assert.deepEqual(LAYOUT, { pageBytes: 4096, commitOffset: 8, dataOffset: 16 });
  const common = { deviceOffset: 8, sectorOffset: 16, sectorCountOffset: 24 };
  assert.deepEqual(FORMAT, { ...common, eventId: 2107, operationOffset: 34, recordBytes: 44 });
  const older = parseRequestFormat(FORMAT_6_1);
  assert.deepEqual(older, { ...common, eventId: 1138, operationOffset: 32, recordBytes: 40 });
});

test("unknown descriptions are refused", () => {
  const refused = { code: "TRACE_FORMAT_UNKNOWN" };
  assert.throws(() => parseRequestFormat(""), refused);
  assert.throws(() => parseRequestFormat(FORMAT_6_1.replace(" sector;", " place;")), refused);
  assert.throws(() => parseRequestFormat(FORMAT_6_1.replace("offset:16", "offset:17")), refused);
  assert.throws(() => parseRequestFormat(FORMAT_6_1.replace("size:8;", "size:4;")), refused);
  assert.throws(() => parseRingPageLayout("field: char data;	offset:16;	size:4080;"), refused);
});

test("a page that the kernel wrote gives its requests; flushes are none", () => {
  const page = Buffer.from(RECORDED.replaceAll(/\s/g, ""), "hex");
  const { state, requests } = readPage(readerOf(page));
  const device = 7 * 2 ** 20;
  assert.equal(state, CLEAN);
  assert.deepEqual(requests, [
    [device, WRITE, 0x30, 16],
    [device, READ, 0x48, 8],
    [device, READ, 0x1f80, 8],
  ]);
});

test("operations by their letters, in the formats of both kernels", () => {
  const letters: readonly (readonly [string, RequestKind])[] = [
    ["W", WRITE],
    ["WFSM", WRITE],
    ["FWFSM", WRITE],
    ["D", DISCARD],
    ["DE", DISCARD],
    ["N", ZEROES],
    ["NS", ZEROES],
    ["ZA", ZEROES],
    ["FF", ZEROES],
    ["R", READ],
    ["RAM", READ],
  ];
  for (const format of [FORMAT, parseRequestFormat(FORMAT_6_1)]) {
    const writer = new PageWriter(format);
    for (const [text] of letters) writer.request(text, 5, 2n ** 40n + 7n, 9);
    const { state, requests } = readPage(readerOf(writer.page, format));
    assert.equal(state, CLEAN);
    const expected = letters.map(([, kind]) => [5, kind, 2 ** 40 + 7, 9]);
    assert.deepEqual(requests, expected);
  }
});

test("other records are skipped: time, padding, discarded ones, other events, empty requests", () => {
  const writer = new PageWriter()
    .raw(30, 12_345)
    .raw(31, 99)
    .raw(29 + 32, 8, 0)
    .request("W", 1, 0n, 0)
    .raw(2, 0x1111, 0)
    .request("W", 1, 16n, 8, true)
    .raw(29)
    .raw(0xffffffff);
  assert.deepEqual(readPage(readerOf(writer.page)), {
    state: CLEAN,
    requests: [[1, WRITE, 16, 8]],
  });
});

test("a page after overwritten ones says so, and still gives its requests", () => {
  for (const flags of [0x80000000, 0xc0000000]) {
    const writer = new PageWriter().request("W", 1, 8n, 8).commit(flags);
    const { state, requests } = readPage(readerOf(writer.page));
    assert.equal(state, MISSED);
    assert.equal(requests.length, 1);
  }
});

test("damage is told from an end", () => {
  const damaged = (page: Uint8Array): void => assert.equal(readPage(readerOf(page)).state, DAMAGED);
  const tooLong = new PageWriter().page;
  tooLong.writeUInt32LE(4084, LAYOUT.commitOffset);
  damaged(tooLong);
  const odd = new PageWriter().raw(30, 0).page;
  odd.writeUInt32LE(7, LAYOUT.commitOffset);
  damaged(odd);
  damaged(new PageWriter().raw(28, 2107).page);
  damaged(new PageWriter().raw(0, 0).page);
  damaged(new PageWriter().raw(0, 6, 2107).page);
  damaged(new PageWriter().raw(0, 4).page);
  damaged(new PageWriter().raw(2, 2107, 0).page);
  damaged(new PageWriter().raw(29 + 32, 0xfffffffc).page);
});

test("any bytes at all are read without an end or an error", () => {
  let state = 20_260_118;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const reader = new RingPageReader(LAYOUT, FORMAT);
  const words = new Uint32Array(reader.page.buffer);
  let states = 0;
  for (let round = 0; round < 3000; round++) {
    const writer = new PageWriter();
    while (random() % 40 !== 0 && (writer.page.readUInt32LE(8) ?? 0) < 3900)
      writer.request("W", 1, BigInt(random()), random());
    reader.page.set(writer.page);
    for (let flips = random() % 6; flips >= 0; flips--) {
      const index = random() % 2 === 0 ? random() % 1024 : 2 + (random() % 20);
      words[index] = random() % 3 === 0 ? random() : (words[index] ?? 0) ^ (1 << (random() % 32));
    }
    const result = readPage(reader);
    states |= 1 << result.state;
    assert.ok(result.requests.length <= 4080 / 48);
    for (const [device, , sector, count] of result.requests)
      assert.ok(device >= 0 && sector >= 0 && count > 0);
  }
  assert.equal(states, 0b111, "the pages were too harmless, or all were damaged");
});
