import assert from "node:assert/strict";
import { test } from "node:test";

import { OsrError, hasCode } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { uuidOfName } from "@osr/base/uuid";
import { STORE_ERRORS, bodyOf } from "@osr/repository/object-store";
import { recoveryPointName, wrappedKeyName } from "@osr/repository/object-names";
import { temporaryStore } from "@osr/repository/testing/temporary-store";

import { STORAGE_USE_AGE_MS_MAX, StorageUses } from "./storage-use.ts";

const vaultId = uuidOfName("test", "vault");
const diskId = uuidOfName("test", "disk");

test("objects are counted by what they belong to, once for all who ask, and again when the count is old", async () => {
  await using at = await temporaryStore();
  let unixMs = 1_000_000;
  let lists = 0;
  let failsNext = false;
  const store = Object.create(at.store, {
    list: {
      value: (...args: Parameters<typeof at.store.list>) => {
        lists += 1;
        if (failsNext) {
          failsNext = false;
          throw new OsrError(STORE_ERRORS.STORE_UNAVAILABLE, "away");
        }
        return at.store.list(...args);
      },
    },
  }) as typeof at.store;
  const clock = { unixMs: () => unixMs, monotonicMs: () => unixMs };
  const uses = new StorageUses({ store, clock, scheduler: systemScheduler });
  await at.store.create(wrappedKeyName(vaultId, diskId, 1), bodyOf(Buffer.alloc(10)));
  await at.store.create(recoveryPointName(vaultId, diskId, 1), bodyOf(Buffer.alloc(7)));
  const [first, second] = await Promise.all([uses.of(vaultId), uses.of(vaultId)]);
  assert.deepEqual([...first.disks], [[diskId, { bytes: 10, objects: 1 }]]);
  assert.deepEqual(first.recoveryPoints, { bytes: 7, objects: 1 });
  assert.equal(first, second);
  assert.equal(lists, 2);
  unixMs += STORAGE_USE_AGE_MS_MAX - 1;
  assert.equal(await uses.of(vaultId), first);
  unixMs += 1;
  await at.store.create(recoveryPointName(vaultId, diskId, 2), bodyOf(Buffer.alloc(7)));
  failsNext = true;
  await assert.rejects(uses.of(vaultId), (error) => hasCode(error, STORE_ERRORS.STORE_UNAVAILABLE));
  const [third, fourth] = await Promise.all([uses.of(vaultId), uses.of(vaultId)]);
  assert.equal(third.recoveryPoints.objects, 2);
  assert.equal(third, fourth);
});
