import assert from "node:assert/strict";
import { suite, test } from "node:test";

import * as fc from "fast-check";

import { KIB, MIB } from "@osr/base/units";

import { cachedSource } from "./cached-source.ts";
import { CACHE_BYTES_MIN, GRANULE_BYTES, GranuleCache } from "./granule-cache.ts";
import { ModelSource, blockSourceContract, modelBytes } from "./model-source.contract.ts";

async function readFrom(
  source: { read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> },
  offset: number,
  bytes: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const target = Buffer.alloc(bytes, 0xaa);
  await source.read(offset, target, signal);
  return target;
}

/** Bytes without any zero block. */
function denseBytes(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let i = 0; i + 4 <= sizeBytes; i += 4) bytes.writeUInt32LE(i + 1, i);
  return bytes;
}

void suite("cached source", () => {
  blockSourceContract("model source", async (bytes) => new ModelSource(bytes));
  blockSourceContract("cached source", async (bytes) => cachedSource(new ModelSource(bytes)));

  test("any order of concurrent reads gives the bytes, also when the cache is far too small", async () => {
    const bytes = modelBytes(40 * MIB, 7);
    const read = fc.record({
      offset: fc.integer({ min: 0, max: bytes.length - 1 }),
      bytes: fc.oneof(fc.constant(4096), fc.integer({ min: 1, max: 3 * MIB })),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(read, { minLength: 1, maxLength: 60 }),
        fc.nat({ max: 3 }),
        async (reads, delays) => {
          const model = new ModelSource(bytes);
          model.beforeRead = async (offset) => {
            for (let i = 0; i < (offset / GRANULE_BYTES) % (delays + 1); i++)
              await Promise.resolve();
          };
          const cache = new GranuleCache({ cacheBytes: CACHE_BYTES_MIN });
          await using source = cachedSource(model, { cache });
          await Promise.all(
            reads.map(async ({ offset, bytes: length }) => {
              const end = Math.min(offset + length, bytes.length);
              const got = await readFrom(source, offset, end - offset);
              assert.ok(got.equals(bytes.subarray(offset, end)), `${offset} to ${end}`);
            }),
          );
        },
      ),
      { numRuns: 40, seed: 20_260_101 },
    );
  });

  test("two readers of one granule read it once, and the next finds it", async () => {
    const model = new ModelSource(denseBytes(MIB));
    await using source = cachedSource(model, { readAheadBytes: 0 });
    await Promise.all([
      readFrom(source, 0, 4096),
      readFrom(source, 4096, 4096),
      readFrom(source, 100, 65_000),
    ]);
    await readFrom(source, 60_000, 100);
    assert.deepEqual(model.reads, [{ offset: 0, bytes: GRANULE_BYTES }]);
  });

  test("a long read reads adjacent granules at once", async () => {
    const model = new ModelSource(denseBytes(4 * MIB));
    await using source = cachedSource(model, { readAheadBytes: 0 });
    await readFrom(source, 10, 2 * MIB);
    assert.ok(model.reads.length <= 4, JSON.stringify(model.reads));
  });

  test("zeros are not read and take no room", async () => {
    const model = new ModelSource(Buffer.alloc(64 * MIB));
    model.bytes.write("here", 40 * MIB);
    const cache = new GranuleCache({ cacheBytes: CACHE_BYTES_MIN });
    await using source = cachedSource(model, { cache, readAheadBytes: 0 });
    const all = await readFrom(source, 0, 64 * MIB);
    assert.ok(all.equals(model.bytes));
    assert.deepEqual(model.reads, [{ offset: 40 * MIB, bytes: GRANULE_BYTES }]);
  });

  test("sequential readers are served in advance, each stream by itself", async () => {
    const model = new ModelSource(denseBytes(32 * MIB));
    await using source = cachedSource(model);
    for (let i = 0; i < 64; i++) {
      await readFrom(source, i * 64 * KIB, 64 * KIB);
      await readFrom(source, 16 * MIB + i * 64 * KIB, 64 * KIB);
    }
    const longest = Math.max(...model.reads.map((read) => read.bytes));
    assert.ok(longest >= 512 * KIB, `longest read was ${longest}`);
    assert.ok(model.reads.length < 40, `${model.reads.length} reads for 128`);
  });

  test("random reads read nothing in advance", async () => {
    const model = new ModelSource(denseBytes(64 * MIB));
    await using source = cachedSource(model);
    for (let i = 0; i < 30; i++) await readFrom(source, ((i * 7) % 31) * 512 * KIB, 4096);
    assert.equal(model.reads.length, 30);
  });

  test("a failed read is an error for everyone who waits, and is tried again by the next", async () => {
    const model = new ModelSource(denseBytes(MIB));
    let failures = 1;
    model.beforeRead = async () => {
      if (failures > 0) {
        failures -= 1;
        throw new Error("planted");
      }
    };
    await using source = cachedSource(model, { readAheadBytes: 0 });
    const [first, second] = await Promise.allSettled([
      readFrom(source, 0, 100),
      readFrom(source, 200, 100),
    ]);
    assert.equal(first.status, "rejected");
    assert.equal(second.status, "rejected");
    const got = await readFrom(source, 0, 300);
    assert.ok(got.equals(model.bytes.subarray(0, 300)));
  });

  test("damage elsewhere in a long load does not fail a reader of sound granules", async () => {
    const model = new ModelSource(denseBytes(MIB));
    const damaged = 5 * GRANULE_BYTES;
    model.beforeRead = async (offset, bytes) => {
      if (offset <= damaged && damaged < offset + bytes) throw new Error("planted");
    };
    await using source = cachedSource(model, { readAheadBytes: 0 });
    const [long, short] = await Promise.allSettled([
      readFrom(source, 0, MIB),
      readFrom(source, 2 * GRANULE_BYTES, 4096),
    ]);
    assert.equal(long.status, "rejected");
    assert.equal(short.status, "fulfilled");
  });

  test("a reader that leaves cancels the load, unless another one waits for it", async () => {
    const model = new ModelSource(denseBytes(MIB));
    const gate = Promise.withResolvers<undefined>();
    const aborted: number[] = [];
    model.beforeRead = async (offset, _bytes, signal) => {
      signal?.addEventListener("abort", () => aborted.push(offset));
      await gate.promise;
      signal?.throwIfAborted();
    };
    const source = cachedSource(model, { readAheadBytes: 0 });
    const leaving = new AbortController();
    const lonely = readFrom(source, 0, 100, leaving.signal);
    const shared = readFrom(source, GRANULE_BYTES, 100, leaving.signal);
    const staying = readFrom(source, GRANULE_BYTES, 100);
    await new Promise(setImmediate);
    leaving.abort(new Error("gone"));
    await assert.rejects(lonely, /gone/);
    await assert.rejects(shared, /gone/);
    assert.deepEqual(aborted, [0]);
    // Who comes while the cancelled load is still ending starts another one.
    const late = readFrom(source, 0, 100);
    gate.resolve(undefined);
    assert.ok((await staying).equals(model.bytes.subarray(GRANULE_BYTES, GRANULE_BYTES + 100)));
    assert.ok((await late).equals(model.bytes.subarray(0, 100)));
    await source[Symbol.asyncDispose]();
    assert.ok(model.disposed);
  });

  test("disposing waits for the reads that it cancels", async () => {
    const model = new ModelSource(denseBytes(MIB));
    model.beforeRead = async (_offset, _bytes, signal) => {
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      await new Promise(setImmediate);
      throw new Error("cancelled");
    };
    const source = cachedSource(model);
    const read = readFrom(source, 0, 100);
    const outcome = assert.rejects(read, /cancelled/);
    await new Promise(setImmediate);
    await source[Symbol.asyncDispose]();
    await outcome;
    assert.ok(model.disposed);
  });

  test("sources that share a cache do not see each other's bytes, and stay within its bound", async () => {
    const cache = new GranuleCache({ cacheBytes: CACHE_BYTES_MIN });
    const models = [3, 4, 5].map((seed) => new ModelSource(modelBytes(24 * MIB, seed)));
    const sources = models.map((model) => cachedSource(model, { cache }));
    for (let round = 0; round < 3; round++)
      for (let at = 0; at < 24 * MIB; at += 700 * KIB)
        for (const [index, source] of sources.entries()) {
          const length = Math.min(100 * KIB, 24 * MIB - at);
          const got = await readFrom(source, at, length);
          assert.ok(models[index]?.bytes.subarray(at, at + length).equals(got));
        }
    for (const source of sources) await source[Symbol.asyncDispose]();
  });
});
