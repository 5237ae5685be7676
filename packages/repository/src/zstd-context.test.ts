// oxlint-disable no-underscore-dangle -- names of Node
import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, createZstdCompress, zstdCompressSync, zstdDecompressSync } from "node:zlib";

import * as fc from "fast-check";

import { seededRandomness } from "./testing/seeded-randomness.ts";
import { packZstd, packedBytesMax, unpackZstd } from "./zstd-context.ts";

const randomness = seededRandomness("zstd");

/** Text, noise, zeros, and mixtures of them. */
const inputs = fc
  .array(fc.record({ kind: fc.nat(2), bytes: fc.integer({ min: 0, max: 20_000 }), seed: fc.nat() }))
  .map((parts) =>
    Buffer.concat(
      parts.map(({ kind, bytes, seed }) =>
        kind === 0
          ? Buffer.alloc(bytes)
          : kind === 1
            ? Buffer.alloc(bytes, `text ${seed} `)
            : seededRandomness(String(seed)).bytes(bytes),
      ),
    ),
  )
  .filter((input) => input.length > 0);

function packed(input: Buffer): Buffer {
  const target = Buffer.alloc(packedBytesMax(input.length));
  return target.subarray(0, packZstd(input, target));
}

test("this Node has what a context is made of", () => {
  const stream = createZstdCompress() as unknown as { _handle: object; _writeState: unknown };
  assert.ok("writeSync" in stream._handle);
  assert.ok(stream._writeState instanceof Uint32Array);
});

test("one input after another gives the bytes that one call each gives, whatever came before", () => {
  const params = { [constants.ZSTD_c_compressionLevel]: 1 };
  fc.assert(
    fc.property(inputs, (input) => {
      const here = packed(input);
      const alone = zstdCompressSync(input, { params, pledgedSrcSize: input.length });
      assert.ok(here.equals(alone));
      assert.ok(zstdDecompressSync(here).equals(input));
      const target = Buffer.alloc(input.length + 1);
      assert.equal(unpackZstd(here, target), input.length);
      assert.ok(target.subarray(0, input.length).equals(input));
    }),
    { numRuns: 100 },
  );
});

test("what is cut, damaged, too long or none is told, and does not touch the next input", () => {
  const whole = Buffer.alloc(50_000, "some text and more ");
  randomness.bytes(10_000).copy(whole, 20_000);
  const good = packed(whole);
  const target = Buffer.alloc(whole.length + 1);
  fc.assert(
    fc.property(
      fc.nat(good.length - 1),
      fc.nat(3),
      fc.integer({ min: 1, max: 255 }),
      (at, how, x) => {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ x;
        if (how === 0) unpackZstd(good.subarray(0, at), target);
        else if (how === 1) unpackZstd(bad, target);
        else if (how === 2) assert.notEqual(unpackZstd(good, target.subarray(0, at)), whole.length);
        else unpackZstd(randomness.bytes(at), target);
        target.fill(0);
        assert.equal(unpackZstd(good, target), whole.length);
        assert.ok(target.subarray(0, whole.length).equals(whole));
      },
    ),
    { numRuns: 300 },
  );
  assert.equal(unpackZstd(Buffer.from("no frame of zstd at all"), target), undefined);
});
