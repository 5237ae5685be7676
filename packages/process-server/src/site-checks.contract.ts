import assert from "node:assert/strict";

import type { Uuid } from "@osr/base/uuid";
import { groupKeyOf } from "@osr/repository/key-schedule";
import type { ObjectStore } from "@osr/repository/object-store";
import { openPoint } from "@osr/repository/point-reader";
import { type RecoveryPoint, listRecoveryPoints } from "@osr/repository/recovery-point";
import { verifyRepository } from "@osr/repository/repository-check";
import { readDataKey } from "@osr/repository/wrapped-key";
import { diskIdOf } from "@osr/repository/disk-id";

import type { ModelDisk } from "./model-disk.contract.ts";
import { TestAgent } from "./test-agent.contract.ts";
import { type Testbed, VAULT_ID, VAULT_KEY } from "./testbed.contract.ts";

/** What tests look at from outside: agents come in by TLS, points are read from the storage account. */
export async function agentOf(testbed: Testbed, port: number, machineId: Uuid): Promise<TestAgent> {
  return new TestAgent({
    machineId,
    port,
    identity: await testbed.identityOf(machineId),
    authorityPem: testbed.authority.certificatePem,
  });
}

export async function offeredPoints(
  store: ObjectStore,
  machineId: Uuid,
): Promise<readonly RecoveryPoint[]> {
  const groupKeys = () => groupKeyOf(VAULT_KEY, machineId);
  const options = { vaultId: VAULT_ID, groupId: machineId, groupKeys };
  const list = await listRecoveryPoints(store, options);
  assert.deepEqual(list.rejected, []);
  return list.offered;
}

/** Reads a disk of a point as a failover would, and compares every block. */
export async function comparePoint(
  store: ObjectStore,
  point: RecoveryPoint,
  disk: { readonly machineId: Uuid; readonly identity: string },
  model: ModelDisk,
): Promise<void> {
  const diskId = diskIdOf(disk.machineId, disk.identity);
  const dataKey = await readDataKey(store, { vaultId: VAULT_ID, vaultKey: VAULT_KEY, diskId });
  await using source = await openPoint(store, { vaultId: VAULT_ID, point, diskId, dataKey });
  await model.compare(source, `${disk.identity} at slot ${point.slot}`);
}

/** Everything in the storage account decrypts, chains and adds up. */
export async function assertRepositoryIsSound(store: ObjectStore): Promise<void> {
  for await (const event of verifyRepository(store, { vaultId: VAULT_ID, vaultKey: VAULT_KEY }))
    if (event.kind === "finding") assert.fail(`${event.object}: ${event.code} ${event.message}`);
}
