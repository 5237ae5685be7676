import type { Uuid } from "@osr/base/uuid";
import { hasCode } from "@osr/base/errors";
import type { JsonObject } from "@osr/base/json-value";
import type { SessionDisk } from "@osr/contracts/agent-protocol";
import type { DiskGrant, MachineGrant } from "@osr/contracts/site-protocol";
import type { ClaimGrant } from "@osr/contracts/claim-grant";
import { signClaimGrant } from "@osr/repository/claim-grant";
import { diskIdOf } from "@osr/repository/disk-id";
import { type DataKey, groupKeyOf, indexRootOf } from "@osr/repository/key-schedule";
import { type LogTip, readLogTip } from "@osr/repository/log-end";
import { currentLog } from "@osr/repository/log-timeline";
import { type LogId, TIMELINE_ROOT } from "@osr/repository/object-names";
import { STORE_ERRORS } from "@osr/repository/object-store";
import { ensureDataKey } from "@osr/repository/wrapped-key";

import type { VaultContext } from "../vault-context.ts";

type DiskPorts = Pick<VaultContext, "store" | "vaultKey" | "randomness">;

/** A data key that is known, or else what `read` gives. */
type KeyOf = (diskId: Uuid, read: () => Promise<DataKey>) => Promise<DataKey>;

/** Ids and keys of a machine's disks; makes the data keys that are not there yet. */
export async function machineGrantOf(
  ports: DiskPorts,
  machine: {
    readonly vaultId: Uuid;
    readonly machineId: Uuid;
    readonly groupId: Uuid;
    readonly disks: readonly SessionDisk[];
    /** ClaimGrant by disk id. */
    readonly claimGrants: JsonObject;
  },
  signal: AbortSignal,
  keyOf: KeyOf = (_diskId, read) => read(),
): Promise<MachineGrant> {
  const { vaultId, machineId, groupId, claimGrants } = machine;
  const disks: DiskGrant[] = [];
  for (const { identity } of machine.disks) {
    const diskId = diskIdOf(machineId, identity);
    const key = await keyOf(diskId, () => dataKeyOf(ports, vaultId, diskId, signal));
    const claimGrant = claimGrants[diskId] as unknown as ClaimGrant | undefined;
    disks.push({
      identity,
      diskId,
      timeline: TIMELINE_ROOT,
      dataKey: key.bytes.toString("hex"),
      ...(claimGrant === undefined ? {} : { claimGrant }),
    });
  }
  const groupKey = groupKeyOf(ports.vaultKey, groupId).toString("hex");
  return { machineId, groupId, groupKey, disks };
}

/**
 * Permissions for the source to claim the logs of its disks again, for those that a failover has closed: what a disk needs
 * whose protection goes on, or is enabled once more, after a failover.
 */
export async function claimGrantsOf(
  ports: DiskPorts,
  machine: {
    readonly vaultId: Uuid;
    readonly machineId: Uuid;
    readonly disks: readonly SessionDisk[];
  },
  signal: AbortSignal,
): Promise<JsonObject> {
  const { vaultId, machineId } = machine;
  const grants: Record<string, JsonObject> = {};
  for (const { identity } of machine.disks) {
    const diskId = diskIdOf(machineId, identity);
    const { log, indexRoot } = await openedLog(ports, vaultId, diskId, signal);
    const tip = await tipIfAny(ports, log, indexRoot, signal);
    if (tip?.meta.fence?.kind !== "failover") continue;
    grants[diskId] = { ...signClaimGrant(ports.vaultKey, log, tip.generation + 1) };
  }
  return grants;
}

/** Where the log of a disk goes on, and what opens its indexes. */
export async function openedLog(
  ports: DiskPorts,
  vaultId: Uuid,
  diskId: Uuid,
  signal: AbortSignal,
): Promise<{ readonly log: LogId; readonly dataKey: DataKey; readonly indexRoot: Buffer }> {
  const dataKey = await dataKeyOf(ports, vaultId, diskId, signal);
  const indexRoot = indexRootOf(dataKey);
  const root: LogId = { vaultId, diskId, timeline: TIMELINE_ROOT };
  return { log: await currentLog(ports.store, root, { indexRoot, signal }), dataKey, indexRoot };
}

/** A disk that was never replicated has no log yet. */
async function tipIfAny(
  { store }: DiskPorts,
  log: LogId,
  indexRoot: Buffer,
  signal: AbortSignal,
): Promise<LogTip | undefined> {
  try {
    return await readLogTip(store, log, indexRoot, signal);
  } catch (error) {
    if (hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) return undefined;
    throw error;
  }
}

function dataKeyOf(
  { store, vaultKey, randomness }: DiskPorts,
  vaultId: Uuid,
  diskId: Uuid,
  signal: AbortSignal,
): Promise<DataKey> {
  return ensureDataKey(store, { vaultId, vaultKey, diskId, randomness, signal });
}
