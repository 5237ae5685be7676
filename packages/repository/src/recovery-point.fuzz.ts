import assert from "node:assert/strict";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import { decodeDiskDescriptor, encodeDiskDescriptor } from "./disk-descriptor.ts";
import { parseObjectName, recoveryPointName, segmentName } from "./object-names.ts";
import { decodeRecoveryPoint, encodeRecoveryPoint, recoveryPointOf } from "./recovery-point.ts";
import { assertCoded } from "./testing/coded-error.ts";
import { testDescriptor } from "./testing/log-fixture.ts";
import { unwrapDataKey, wrapDataKey } from "./wrapped-key.ts";

const id = uuidOfName("point");
const key = Buffer.alloc(32, 6);
const ids = fc.uniqueArray(fc.nat(9), { minLength: 1, maxLength: 4 });

function decodes<T>(decode: () => T, check: (value: T) => void): void {
  try {
    check(decode());
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    assertCoded(error);
  }
}

export const recoveryPointFuzz = fuzzTarget(
  "recovery-point",
  "recovery points: not without the group key's signature, and never in two spellings",
  fc.property(ids, fc.nat(2 ** 31), fc.nat(5), mutations, (numbers, slot, seq, changes) => {
    const disks = numbers.map((n) => uuidOfName("disk", String(n)));
    const tag = { groupId: id, slot, cutId: id, class: "crash", unixMs: 5, disks } as const;
    const positions = disks.map((diskId) => ({ diskId, timeline: 1, seq: seq + 1, head: key }));
    const whole = encodeRecoveryPoint(recoveryPointOf(tag, positions, key));
    const bytes = mutated(whole, changes);
    decodes(
      () => decodeRecoveryPoint(bytes, key),
      () => assert.ok(bytes.equals(whole), "only what was signed is a point"),
    );
    decodes(
      () => decodeRecoveryPoint(bytes),
      (point) => assert.ok(point.disks.length > 0),
    );
  }),
);

export const diskDescriptorFuzz = fuzzTarget(
  "disk-descriptor",
  "disk descriptors: not without the descriptor key's signature",
  fc.property(fc.integer({ min: 512, max: 2 ** 40 }), mutations, (sizeBytes, changes) => {
    const whole = encodeDiskDescriptor(testDescriptor(id, id, sizeBytes), key);
    const bytes = mutated(whole, changes);
    decodes(
      () => decodeDiskDescriptor(bytes, key),
      () => assert.ok(bytes.equals(whole), "only what was signed is a descriptor"),
    );
  }),
);

export const wrappedKeyFuzz = fuzzTarget(
  "wrapped-key",
  "wrapped data keys: an error, or the key as it was",
  fc.property(mutations, (changes) => {
    const wrapping = { vaultId: id, vaultKey: key, diskId: id };
    const dataKey = { diskId: id, version: 1, bytes: Buffer.alloc(32, 8) };
    const whole = wrapDataKey(dataKey, wrapping, Buffer.alloc(12, 3));
    decodes(
      () => unwrapDataKey(mutated(whole, changes), wrapping, 1),
      (read) => assert.deepEqual(read, dataKey),
    );
  }),
);

export const objectNameFuzz = fuzzTarget(
  "object-name",
  "names in the storage account: none of ours, or one that is made again from what it says",
  fc.property(fc.nat(2 ** 31), fc.boolean(), mutations, (number, isPoint, changes) => {
    const log = { vaultId: id, diskId: id, timeline: 1 };
    const whole = isPoint ? recoveryPointName(id, id, number) : segmentName(log, number + 1);
    const name = mutated(Buffer.from(whole), changes).toString("utf8");
    const parsed = parseObjectName(id, name);
    if (parsed?.kind === "segment")
      assert.equal(segmentName({ ...log, ...parsed }, parsed.seq), name);
    if (parsed?.kind === "recovery-point")
      assert.equal(recoveryPointName(id, parsed.groupId, parsed.slot), name);
  }),
);
