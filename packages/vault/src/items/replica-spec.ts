import { createHash } from "node:crypto";

import type { Uuid } from "@osr/base/uuid";

import { ArmError } from "../arm/arm-error.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { ReplicaNetwork, ReplicaPoint, ReplicaSpec } from "@osr/contracts/replica-host";
import { readItems } from "./item-reading.ts";
import { type ItemRow, groupIdOf, targetOf } from "./item-row.ts";
import type { RecoveryNetworkTable } from "./item-tables.ts";
import { replicaNameOf } from "./machine-names.ts";
import { type NetworkMachine, subnetAround, withAddresses } from "./network-addresses.ts";
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
    name: replicaNameOf(vmName ?? row.friendly_name),
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
 * The network of the recovery site that an ARM id or a name means, with an address for every protected item of the vault that
 * comes into it. Scripts written for Azure name virtual networks by their whole id; its last segment counts. Throws ArmError
 * 400 where there is none of that name.
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
  return withAddresses(networkFrom(row), await networkMachines(database, vaultId));
}

/** A test network of its own, where nobody named one: isolated, so that the source's own address does no harm. */
export async function isolatedNetwork(
  database: VaultDatabase | VaultTransaction,
  row: ItemRow,
  jobId: Uuid,
): Promise<ReplicaNetwork> {
  const machines = await networkMachines(database, row.vault_id, row.id);
  const own = machines[0]?.addresses.find((address) => !address.startsWith("127."));
  const network = {
    ...subnetAround(own),
    name: hostNetworkName(jobId),
    isIsolated: true,
    reservations: [],
  };
  return withAddresses(network, machines);
}

/** Protected items as machines that may come into a network, in a fixed order. */
async function networkMachines(
  database: VaultDatabase | VaultTransaction,
  vaultId: Uuid,
  itemId?: Uuid,
): Promise<readonly NetworkMachine[]> {
  const only = itemId === undefined ? {} : { itemId };
  const readings = await readItems(database, vaultId, only);
  return readings.map(({ row, machine }) => ({
    mac: targetOf(row).mac ?? macOf(row.machine_id),
    hostName: targetOf(row).vmName ?? row.friendly_name,
    addresses: (machine?.registration?.addresses ?? machine?.address ?? "")
      .split(",")
      .map((address) => address.trim()),
  }));
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
