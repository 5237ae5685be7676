import { createHash } from "node:crypto";

import type { Uuid } from "@osr/base/uuid";

import { ArmError } from "../arm/arm-error.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { ReplicaNetwork, ReplicaPoint, ReplicaSpec } from "../replicas/replica-host.ts";
import { type ItemRow, groupIdOf, targetOf } from "./item-row.ts";
import type { RecoveryNetworkTable } from "./item-tables.ts";
import { targetSize } from "./target-size.ts";

/** The replica of an item that a job starts. */
export function replicaSpecOf(
  row: ItemRow,
  options: {
    readonly replicaId: Uuid;
    readonly point: ReplicaPoint;
    readonly network: ReplicaNetwork | undefined;
  },
): ReplicaSpec {
  const { vmName, vmSize, mac } = targetOf(row);
  const size = targetSize(vmSize);
  return {
    ...options,
    vaultId: row.vault_id,
    machineId: row.machine_id,
    groupId: groupIdOf(row),
    name: vmName ?? row.friendly_name,
    mac: mac ?? macOf(row.machine_id),
    ...(size === undefined ? {} : { cpuCount: size.cpuCount, memoryBytes: size.memoryBytes }),
  };
}

/** A locally administered address that is always the same for a machine: DHCP leases and udev rules hold. */
export function macOf(machineId: Uuid): string {
  const [a = 0, b = 0, c = 0] = createHash("sha256").update(machineId).digest();
  return ["52", "54", "00", ...[a, b, c].map((byte) => byte.toString(16).padStart(2, "0"))].join(
    ":",
  );
}

/**
 * The network of the recovery site that an ARM id or a name means. Scripts written for Azure name virtual networks by their
 * whole id; its last segment counts. Throws ArmError 400 where there is none of that name.
 */
export async function networkOf(
  database: VaultDatabase | VaultTransaction,
  vaultId: Uuid,
  networkId: string,
): Promise<ReplicaNetwork> {
  const name = networkId.split("/").at(-1) ?? "";
  const row = await database
    .selectFrom("recovery_network")
    .selectAll()
    .where("vault_id", "=", vaultId)
    .where("key", "=", name.toLowerCase())
    .executeTakeFirst();
  if (row === undefined)
    throw new ArmError(
      400,
      "NetworkNotFound",
      `the recovery site has no network ${name}`,
      "List the networks of the recovery site, or create it.",
    );
  return networkFrom(row);
}

/** A test network of its own, where nobody named one: isolated, so that the source's addresses do no harm. */
export function isolatedNetwork(jobId: Uuid): ReplicaNetwork {
  return {
    name: hostNetworkName(jobId),
    subnet: "10.0.2.0/24",
    gateway: "10.0.2.2",
    isIsolated: true,
    reservations: [],
  };
}

function networkFrom(
  row: Pick<RecoveryNetworkTable, "id" | "subnet" | "gateway" | "is_isolated"> & {
    readonly reservations: unknown;
  },
): ReplicaNetwork {
  return {
    name: hostNetworkName(row.id),
    subnet: row.subnet,
    gateway: row.gateway,
    isIsolated: row.is_isolated,
    reservations: row.reservations as ReplicaNetwork["reservations"],
  };
}

/** Providers take short names only; people never see them. */
function hostNetworkName(id: Uuid): string {
  return `n${createHash("sha256").update(id).digest("hex").slice(0, 7)}`;
}
