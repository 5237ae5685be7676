import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";

import * as fc from "fast-check";

import { uuidOfName } from "@osr/base/uuid";

import { checkWritable, decodeObjectHeader, encodeObjectHeader } from "./object-header.ts";
import { parseObjectName, recoveryPointName, segmentName, wrappedKeyName } from "./object-names.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import {
  SEGMENT_FOOTER_BYTES,
  type SegmentFooter,
  decodeFooter,
  encodeFooter,
} from "./segment-footer.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";

const E = REPOSITORY_ERRORS;
const header = {
  kind: 1,
  vaultId: uuidOfName("vault"),
  diskId: uuidOfName("disk"),
  timeline: 1,
  generation: 2,
  seq: 2 ** 40,
  objectId: uuidOfName("object"),
  keyVersion: 1,
  createdUnixMs: 1_700_000_000_123,
};
const footer: SegmentFooter = {
  isFence: false,
  endsWithTag: true,
  indexOffset: 1024,
  indexBytes: 300,
  directoryBytes: 100,
  frameCount: 1,
  runCount: 2,
  zeroRunCount: 3,
  previousHead: Buffer.alloc(32, 1),
  contentSha256: Buffer.alloc(32, 2),
  slot: 2 ** 33,
};
const OBJECT_BYTES = 1024 + 300 + 128;

/** Each decoder, with bytes that it accepts and the way to make their checksum right. */
const formats = [
  { name: "header", bytes: encodeObjectHeader(header), decode: decodeObjectHeader, crcAt: 124 },
  {
    name: "footer",
    bytes: encodeFooter(footer),
    decode: (bytes: Buffer) => decodeFooter(bytes, OBJECT_BYTES),
    crcAt: 120,
  },
];

test("header and footer give back what was written", () => {
  assert.deepEqual(decodeObjectHeader(encodeObjectHeader(header)), header);
  assert.deepEqual(decodeFooter(encodeFooter(footer), OBJECT_BYTES), footer);
});

for (const { name, bytes, decode, crcAt } of formats) {
  test(`every flipped bit of a ${name} is found`, () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const copy = Buffer.from(bytes);
      const at = Math.floor(bit / 8);
      copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
      assert.throws(() => decode(copy), coded(E.OBJECT_DAMAGED, E.FORMAT_UNKNOWN));
    }
    for (let length = 0; length < bytes.length; length++)
      assert.throws(() => decode(bytes.subarray(0, length)), coded(E.OBJECT_DAMAGED));
  });

  test(`any ${name} with a right checksum is refused or is within its limits`, () => {
    fc.assert(
      fc.property(fc.nat(crcAt - 1), fc.uint8Array({ maxLength: 16 }), (at, noise) => {
        const copy = Buffer.from(bytes);
        copy.set(noise.subarray(0, crcAt - at), at);
        copy.writeUInt32LE(crc32(copy.subarray(0, crcAt)), crcAt);
        try {
          decode(copy);
        } catch (error) {
          assertCoded(error);
        }
      }),
      { numRuns: 500 },
    );
  });
}

test("features decide who may read and write", () => {
  const changed = (offset: number): Buffer => {
    const copy = encodeObjectHeader(header);
    copy.writeUInt32LE(1, offset);
    copy.writeUInt32LE(crc32(copy.subarray(0, 124)), 124);
    return copy;
  };
  decodeObjectHeader(changed(8));
  checkWritable(changed(8));
  decodeObjectHeader(changed(12));
  assert.throws(() => checkWritable(changed(12)), coded(E.FORMAT_NEWER));
  assert.throws(() => decodeObjectHeader(changed(16)), coded(E.FORMAT_NEWER));
});

test("a footer that does not fit its object is refused", () => {
  assert.throws(
    () => decodeFooter(encodeFooter(footer), OBJECT_BYTES + 1),
    coded(E.OBJECT_DAMAGED),
  );
  const wrong: Partial<SegmentFooter>[] = [
    { indexOffset: 64, indexBytes: OBJECT_BYTES - 64 - SEGMENT_FOOTER_BYTES },
    { directoryBytes: 301 },
    { endsWithTag: false },
    { endsWithTag: false, isFence: true, slot: 0 },
    { isFence: true },
  ];
  for (const change of wrong)
    assert.throws(
      () => decodeFooter(encodeFooter({ ...footer, ...change }), OBJECT_BYTES),
      coded(E.OBJECT_DAMAGED),
    );
});

test("names say what their object is", () => {
  const { vaultId, diskId } = header;
  const log = { vaultId, diskId, timeline: 3 };
  assert.equal(segmentName(log, 255), `v1/${vaultId}/d/${diskId}/t3/log/00000000000000ff.seg`);
  assert.deepEqual(parseObjectName(vaultId, segmentName(log, 255)), {
    kind: "segment",
    diskId,
    timeline: 3,
    seq: 255,
  });
  assert.deepEqual(parseObjectName(vaultId, recoveryPointName(vaultId, diskId, 16)), {
    kind: "recovery-point",
    groupId: diskId,
    slot: 16,
  });
  assert.deepEqual(parseObjectName(vaultId, wrappedKeyName(vaultId, diskId, 12)), {
    kind: "wrapped-key",
    diskId,
    version: 12,
  });
  for (const name of [
    segmentName(log, 255).replace("ff.seg", "FF.seg"),
    segmentName(log, 255).replace("t3", "t03"),
    segmentName(log, 0),
    segmentName(log, 255).replace(".seg", ".tmp"),
    segmentName(log, 255).replaceAll("/", "//"),
    segmentName({ ...log, vaultId: diskId }, 1),
    `v1/${vaultId}/g/${diskId}/rp/ffffffffffffffff.json`,
    `v1/${vaultId}/k/${diskId}/0.json`,
  ])
    assert.equal(parseObjectName(vaultId, name), undefined, name);
});
