import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { uuidOfName } from "@osr/base/uuid";
import type { Tag } from "@osr/contracts/tag";

import { recoveryPointName } from "./object-names.ts";
import { bodyOf } from "./object-store.ts";
import {
  checkSignature,
  createRecoveryPoint,
  decodeRecoveryPoint,
  encodeRecoveryPoint,
  listRecoveryPoints,
  newestSlot,
  recoveryPointOf,
} from "./recovery-point.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { assertCoded, coded } from "./testing/coded-error.ts";
import { temporaryStore } from "./testing/temporary-store.ts";

const E = REPOSITORY_ERRORS;
const vaultId = uuidOfName("vault");
const groupId = uuidOfName("group");
const groupKey = Buffer.alloc(32, 3);
const disks = [uuidOfName("disk 1"), uuidOfName("disk 2")].toSorted();

function tagOf(slot: number, cut: string): Tag {
  return {
    groupId,
    slot,
    cutId: uuidOfName(cut),
    class: "crash",
    unixMs: 1_700_000_000_123,
    disks,
  };
}

function pointOf(slot: number, cut = "cut"): ReturnType<typeof recoveryPointOf> {
  const positions = disks.map((diskId, i) => ({
    diskId,
    timeline: 1,
    seq: 5 + i,
    head: Buffer.alloc(32, i),
  }));
  return recoveryPointOf(tagOf(slot, cut), positions, groupKey);
}

test("a point has the sizes that its tag says, under its signature; of one without them it has none", () => {
  const positions = disks.map((diskId) => ({
    diskId,
    timeline: 1,
    seq: 5,
    head: Buffer.alloc(32),
  }));
  const tag = { ...tagOf(1, "cut"), diskBytes: [8192, 512] };
  const point = recoveryPointOf(tag, positions.toReversed(), groupKey);
  const sizes = (of: typeof point): unknown => of.disks.map(({ sizeBytes }) => sizeBytes);
  assert.deepEqual(sizes(point), [8192, 512]);
  const bytes = encodeRecoveryPoint(point);
  const decoded = decodeRecoveryPoint(bytes, groupKey);
  assert.deepEqual(decoded, point);
  assert.ok(checkSignature(decoded, groupKey));
  const forged = bytes.toString("utf8").replace("8192", "8193");
  assert.throws(() => decodeRecoveryPoint(Buffer.from(forged), groupKey), coded(E.POINT_INVALID));
  assert.deepEqual(sizes(pointOf(1)), [undefined, undefined]);
});

test("a point is a function of its tag and positions, in any order", () => {
  const positions = disks.map((diskId) => ({
    diskId,
    timeline: 1,
    seq: 5,
    head: Buffer.alloc(32),
  }));
  const one = recoveryPointOf(tagOf(1, "cut"), positions, groupKey);
  const other = recoveryPointOf(tagOf(1, "cut"), positions.toReversed(), groupKey);
  assert.ok(encodeRecoveryPoint(one).equals(encodeRecoveryPoint(other)));
  assert.throws(() => recoveryPointOf(tagOf(1, "cut"), positions.slice(1), groupKey), {
    code: "INTERNAL_ASSERTION",
  });
});

test("a point is what was signed", () => {
  const point = pointOf(7);
  const bytes = encodeRecoveryPoint(point);
  assert.deepEqual(decodeRecoveryPoint(bytes, groupKey), point);
  assert.ok(checkSignature(point, groupKey));
  assert.ok(!checkSignature({ ...point, slot: 8 }, groupKey));
  assert.throws(() => decodeRecoveryPoint(bytes, Buffer.alloc(32)), coded(E.POINT_INVALID));
});

test("any other bytes are refused", () => {
  const bytes = encodeRecoveryPoint(pointOf(7));
  fc.assert(
    fc.property(
      fc.nat(bytes.length - 1),
      fc.uint8Array({ maxLength: 8 }),
      fc.nat(8),
      (at, noise, cut) => {
        const changed = Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at + cut)]);
        if (changed.equals(bytes)) return;
        try {
          decodeRecoveryPoint(changed, groupKey);
        } catch (error) {
          return assertCoded(error);
        }
        assert.fail(`accepted: ${changed.toString()}`);
      },
    ),
    { numRuns: 1000 },
  );
  const newer = bytes.toString().replace('"format":1', '"format":2');
  assert.throws(() => decodeRecoveryPoint(Buffer.from(newer), groupKey), coded(E.FORMAT_NEWER));
});

test("a point is created once; again it is success, another cut finds the slot taken", async () => {
  await using at = await temporaryStore();
  await createRecoveryPoint(at.store, vaultId, pointOf(7));
  await createRecoveryPoint(at.store, vaultId, pointOf(7));
  await assert.rejects(
    createRecoveryPoint(at.store, vaultId, pointOf(7, "other cut")),
    coded(E.SLOT_TAKEN),
  );
  const lie = { ...pointOf(8), signature: "0".repeat(64) };
  await at.store.create(recoveryPointName(vaultId, groupId, 8), bodyOf(encodeRecoveryPoint(lie)));
  await assert.rejects(createRecoveryPoint(at.store, vaultId, pointOf(8)), coded(E.POINT_INVALID));
});

test("the newest slot is that of the newest authentic point", async () => {
  await using at = await temporaryStore();
  const options = { vaultId, groupId, groupKey };
  assert.equal(await newestSlot(at.store, options), -1);
  for (const slot of [3, 200]) await createRecoveryPoint(at.store, vaultId, pointOf(slot));
  const forged = recoveryPointName(vaultId, groupId, Number.MAX_SAFE_INTEGER);
  await at.store.create(forged, bodyOf(Buffer.from("{}")));
  await at.store.create(
    `v1/${vaultId}/g/${groupId}/rp/ffffffffffffffff.json`,
    bodyOf(Buffer.from("{}")),
  );
  assert.equal(await newestSlot(at.store, options), 200);
  const { offered, rejected } = await listRecoveryPoints(at.store, {
    vaultId,
    groupKeys: () => groupKey,
  });
  assert.deepEqual(
    offered.map(({ slot }) => slot),
    [3, 200],
  );
  assert.equal(rejected.length, 2);
});
