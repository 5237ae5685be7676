import assert from "node:assert/strict";

import * as fc from "fast-check";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import { segmentName } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import { openPoint } from "./point-reader.ts";
import { checkSegment } from "./segment-check.ts";
import { AlteredStore, loadObjects } from "./testing/altered-store.ts";
import { assertCoded } from "./testing/coded-error.ts";
import { TestVault } from "./testing/log-fixture.ts";
import { seededRandomness } from "./testing/seeded-randomness.ts";
import { temporaryStore } from "./testing/temporary-store.ts";

const DISK_BYTES = 64 * BLOCK_BYTES;

/** A disk of two segments and a point; the objects are in memory, so that nothing is left on the disk. */
async function makeScene() {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const noise = seededRandomness("segment");
  const disk = await vault.addDisk(DISK_BYTES);
  await disk.commit([
    { block: 0, bytes: noise.bytes(BLOCK_BYTES) },
    { block: 60, zeroCount: 2 },
    { block: 3, bytes: Buffer.alloc(3 * BLOCK_BYTES, "text") },
  ]);
  const changes = [{ block: 20, bytes: Buffer.alloc(2 * BLOCK_BYTES, "tag") }];
  const point = await vault.cut(5, new Map([[disk, changes]]));
  const listed = await at.store.list("");
  const names = listed.objects.map(({ name }) => name);
  const objects = await loadObjects(at.store, names);
  const listing = listed.objects.map(({ name }) => ({
    name,
    sizeBytes: must(objects.get(name), name).length,
  }));
  const options = { ...disk.log, point, dataKey: disk.dataKey };
  await using source = await openPoint(at.store, options);
  const expected = Buffer.alloc(DISK_BYTES);
  await source.read(0, expected);
  const empty = {
    list: async (prefix: string, { after = "" } = {}) => ({
      objects: listing.filter(({ name }) => name.startsWith(prefix) && name > after),
    }),
  } as unknown as ObjectStore;
  const store = new AlteredStore(empty);
  for (const [name, bytes] of objects) store.alter(name, bytes);
  return { disk, objects, store, options, expected };
}

let scene: ReturnType<typeof makeScene> | undefined;

export const segmentFuzz = fuzzTarget(
  "segment",
  "whole segments of a log: a disk of it reads as it was or not at all, and the check without keys names what was changed",
  fc.asyncProperty(fc.integer({ min: 1, max: 3 }), mutations, async (seq, changes) => {
    const { disk, objects, store, options, expected } = await (scene ??= makeScene());
    const name = segmentName(disk.log, seq);
    const whole = must(objects.get(name), name);
    const bytes = mutated(whole, changes);
    store.alter(name, bytes);
    try {
      await using source = await openPoint(store, options);
      const read = Buffer.alloc(DISK_BYTES);
      await source.read(0, read);
      assert.ok(read.equals(expected), "a changed segment reads as other data");
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assertCoded(error);
    } finally {
      if (!bytes.equals(whole))
        await assertNamed(store, disk.log, { seq, sizeBytes: bytes.length });
      store.alter(name, whole);
    }
  }),
);

async function assertNamed(
  store: ObjectStore,
  log: Parameters<typeof checkSegment>[1]["log"],
  ref: { readonly seq: number; readonly sizeBytes: number },
): Promise<void> {
  let problems = 0;
  const onProblem = (): void => void (problems += 1);
  const check = checkSegment(store, { log, ref, dataKeyOf: () => undefined, onProblem });
  try {
    while ((await check.next()).done !== true);
  } catch (error) {
    assertCoded(error);
    problems += 1;
  }
  assert.ok(problems > 0, "the check without keys finds nothing");
}
