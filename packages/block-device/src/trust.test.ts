import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { messageOf } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MIB } from "@osr/base/units";

import { alignedBuffer } from "./aligned-buffer.ts";
import { openDirectReader } from "./direct-reader.ts";
import type { DirectReader } from "./protected-disk.ts";
import { LoopDisks, loopSkipReason } from "./testing/loop-disk.ts";
import { mountedTracefs } from "./tracefs.ts";
import { eventDeviceOf } from "./tracefs-tracker.ts";
import { learnEventDevices } from "./trust.ts";

function skipReason(): string | false {
  try {
    return loopSkipReason() ?? (mountedTracefs() === "" ? "needs tracefs" : false);
  } catch (error) {
    return messageOf(error);
  }
}

const skip = skipReason();
const name = `osr-test-trust-${process.pid}`;

test("a disk whose reads appear is trusted under its own number", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(64 * MIB);
  await using reader = openDirectReader(disk);
  const trust = await learnEventDevices({ disk, reader, name, randomness: systemRandomness });
  assert.deepEqual(trust, { trusted: true, eventDevices: [eventDeviceOf(disk)] });
});

test("the number is learnt where it is not the disk's own", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(64 * MIB);
  await using reader = openDirectReader(disk);
  const options = { disk: { major: 259, minor: 3 }, reader, name, randomness: systemRandomness };
  const trust = await learnEventDevices(options);
  assert.deepEqual(trust, { trusted: true, eventDevices: [eventDeviceOf(disk)] });
});

test("a disk whose reads cause no events is not trusted", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(64 * MIB);
  await using reader = openDirectReader(disk);
  // A reader that answers without asking the disk: what a cache between us and it would do.
  const cached = {
    sizeBytes: reader.sizeBytes,
    read: () => Promise.resolve(),
    readSync: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const options = { disk, reader: cached, name, randomness: systemRandomness };
  const trust = await learnEventDevices(options);
  assert.ok(!trust.trusted && /did not appear/.test(trust.reason));
  assert.equal(fs.existsSync(`${mountedTracefs()}/instances/${name}`), false);
});

test("reads of other places prove nothing", { skip }, async (t) => {
  const disk = new LoopDisks(t).create(64 * MIB);
  await using reader = openDirectReader(disk);
  const target = alignedBuffer(BLOCK_BYTES);
  const elsewhere: DirectReader = {
    sizeBytes: 32 * MIB,
    read: (offset) => reader.read(offset + 32 * MIB, target),
    readSync: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const options = { disk, reader: elsewhere, name, randomness: systemRandomness };
  assert.equal((await learnEventDevices(options)).trusted, false);
});
