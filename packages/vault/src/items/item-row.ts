import type { Selectable } from "kysely";

import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";

import { ArmError, notFound } from "../arm/arm-error.ts";
import type { VaultRequest } from "../arm/resource-routes.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { ReplicaRecord } from "../replicas/replica-host.ts";
import { foundContainer } from "../resources/fabric-row.ts";
import type { ProtectedItemTable } from "./item-tables.ts";
import type { ItemState } from "./item-state.ts";

export type ItemRow = Selectable<ProtectedItemTable>;

/** What the machine is to be at the recovery site. */
export type TargetSettings = {
  readonly vmName?: string | undefined;
  readonly vmSize?: string | undefined;
  /** ARM ids as clients send them. */
  readonly networkId?: string | undefined;
  readonly testNetworkId?: string | undefined;
  readonly subnetName?: string | undefined;
  /** MAC of the replica's network card; derived from the machine where absent. */
  readonly mac?: string | undefined;
  /** The rest of what a client sent, given back as it came. */
  readonly sent?: JsonObject | undefined;
};

export function stateOf(row: ItemRow): ItemState {
  return {
    phase: row.phase,
    before: row.phase_before,
    test: row.test,
    isFenced: row.is_fenced,
    hasPoint: row.newest_point_slot !== null,
  };
}

export function targetOf(row: ItemRow): TargetSettings {
  return row.target;
}

export function excludedDisksOf(row: ItemRow): readonly string[] {
  return row.excluded_disks as readonly string[];
}

export function replicaOf(record: JsonObject | null): ReplicaRecord | undefined {
  return record === null ? undefined : (record as unknown as ReplicaRecord);
}

/** A machine on its own is a replication group under its own id. */
export function groupIdOf(row: Pick<ItemRow, "machine_id">): Uuid {
  return row.machine_id;
}

/** The item of a path, locked where it is read in a transaction that changes it. Throws ArmError 404. */
export async function foundItem(
  request: VaultRequest,
  database: VaultDatabase | VaultTransaction,
  options: { readonly isLocked: boolean } = { isLocked: false },
): Promise<ItemRow> {
  const fabric = await foundContainer(request, database);
  const name = request.parameters["replicatedProtectedItemName"] ?? "";
  const query = database
    .selectFrom("protected_item")
    .selectAll()
    .where("fabric_id", "=", fabric.id)
    .where("key", "=", name.toLowerCase());
  const row = await (options.isLocked ? query.forUpdate() : query).executeTakeFirst();
  if (row === undefined) throw notFound(`protected item ${name}`);
  return row;
}

/** Throws ArmError 404 where the item is gone. */
export async function itemById(
  database: VaultDatabase | VaultTransaction,
  id: Uuid,
): Promise<ItemRow> {
  const row = await database
    .selectFrom("protected_item")
    .selectAll()
    .where("id", "=", id)
    .executeTakeFirst();
  if (row === undefined) throw notFound(`protected item ${id}`);
  return row;
}

/** The state of an item and what else changes with it, in one statement. */
export async function setItem(
  tx: VaultTransaction,
  id: Uuid,
  now: number,
  state: ItemState,
  more: Partial<{
    readonly replica: JsonObject | null;
    readonly testReplica: JsonObject | null;
    readonly lastFailoverAt: number;
    readonly lastTestFailoverAt: number;
    readonly claimGrants: JsonObject;
    readonly knownDisks: readonly string[];
    readonly job: { readonly id: Uuid; readonly kind: string };
  }> = {},
): Promise<void> {
  const json = (value: JsonObject | null): string | null =>
    value === null ? null : JSON.stringify(value);
  await tx
    .updateTable("protected_item")
    .set({
      phase: state.phase,
      phase_before: state.before,
      test: state.test,
      is_fenced: state.isFenced,
      changed_at: now,
      ...(more.replica === undefined ? {} : { replica: json(more.replica) }),
      ...(more.testReplica === undefined ? {} : { test_replica: json(more.testReplica) }),
      ...(more.lastFailoverAt === undefined ? {} : { last_failover_at: more.lastFailoverAt }),
      ...(more.lastTestFailoverAt === undefined
        ? {}
        : { last_test_failover_at: more.lastTestFailoverAt }),
      ...(more.claimGrants === undefined ? {} : { claim_grants: JSON.stringify(more.claimGrants) }),
      ...(more.knownDisks === undefined ? {} : { known_disks: JSON.stringify(more.knownDisks) }),
      ...(more.job === undefined ? {} : { job_id: more.job.id, job_kind: more.job.kind }),
    })
    .where("id", "=", id)
    .execute();
}

/** The newest report of the item's machine; undefined where there is none. */
export async function reportedMachine(
  database: VaultDatabase | VaultTransaction,
  row: Pick<ItemRow, "fabric_id" | "machine_id">,
): Promise<FabricMachine | undefined> {
  const found = await database
    .selectFrom("fabric_machine")
    .select("document")
    .where("fabric_id", "=", row.fabric_id)
    .where("machine_id", "=", row.machine_id)
    .executeTakeFirst();
  // Checked against its shape when it arrived.
  return found === undefined ? undefined : (found.document as unknown as FabricMachine);
}

/** Disks that the agent has named, by identity, in a fixed order: where they change, the wish of the machine does. */
export function knownDisksOf(machine: FabricMachine | undefined): readonly string[] {
  return (machine?.registration?.disks ?? []).map(({ identity }) => identity).toSorted();
}

export function itemExists(name: string): ArmError {
  return new ArmError(
    409,
    "ProtectedItemExists",
    `${name} is protected already`,
    "Show the item; disable its replication first if it is to be enabled anew.",
  );
}
