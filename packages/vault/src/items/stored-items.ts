import { isDeepStrictEqual } from "node:util";

import { sql } from "kysely";

import type { Uuid } from "@osr/base/uuid";
import type { DesiredItem, FabricMachine, FabricStatus } from "@osr/contracts/fabric-protocol";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { FabricItems, ProtectedMachine } from "../fabric/desired-items.ts";
import { armIdOf } from "../resources/resource-body.ts";
import type { VaultContext } from "../vault-context.ts";
import { itemPath } from "./item-body.ts";
import { machineGrantOf } from "./disk-grants.ts";
import { healthErrorBody, healthOf, itemSymptoms } from "./item-health.ts";
import { ItemKeys } from "./item-keys.ts";
import { readItems } from "./item-reading.ts";
import { type ItemRow, excludedDisksOf, groupIdOf, knownDisksOf } from "./item-row.ts";
import type { ItemPhase } from "./item-state.ts";

/** Phases in which the fabric knows of the item; in all others the machine is simply not protected. */
const WISHED: readonly ItemPhase[] = [
  "protected",
  "failing-over",
  "failover-failed",
  "failed-over",
  "changing-point",
  "committing",
  "committed",
  "cancelling",
];

/** Protected items as rows: what they wish of their fabrics, and what their fabrics report of them. */
export class StoredItems implements FabricItems {
  readonly #context: VaultContext;
  readonly #keys = new ItemKeys();

  constructor(context: VaultContext) {
    this.#context = context;
  }

  async desiredItems(fabricId: Uuid, signal: AbortSignal): Promise<readonly DesiredItem[]> {
    const { database } = this.#context;
    const rows = await database
      .selectFrom("protected_item")
      .innerJoin("policy", "policy.id", "protected_item.policy_id")
      .leftJoin("fabric_machine", (join) =>
        join
          .onRef("fabric_machine.fabric_id", "=", "protected_item.fabric_id")
          .onRef("fabric_machine.machine_id", "=", "protected_item.machine_id"),
      )
      .selectAll("protected_item")
      .select([
        "policy.point_interval_seconds",
        "policy.app_point_interval_seconds",
        "fabric_machine.document as machine_document",
      ])
      .where("protected_item.fabric_id", "=", fabricId)
      .where("phase", "in", WISHED)
      .orderBy("protected_item.machine_id")
      .execute();
    const keyOf = this.#keys.forWish(fabricId, rows);
    const items: DesiredItem[] = [];
    for (const row of rows) items.push(await this.#wish(row, keyOf, signal));
    return items;
  }

  async protectedMachines(
    database: VaultDatabase,
    fabricId: Uuid,
  ): Promise<readonly ProtectedMachine[]> {
    const fabric = await database
      .selectFrom("fabric")
      .innerJoin("vault", "vault.id", "fabric.vault_id")
      .select(["fabric.vault_id", "fabric.name", "vault.arm_id", "vault.name as vault_name"])
      .where("fabric.id", "=", fabricId)
      .executeTakeFirst();
    if (fabric === undefined) return [];
    const vault = { id: fabric.vault_id, armId: fabric.arm_id, name: fabric.vault_name };
    const readings = await readItems(database, fabric.vault_id, { fabricId });
    const nowUnixMs = this.#context.clock.unixMs();
    return readings.map(({ row, policy, machine, pointsKnownUnixMs }) => {
      const isReplicating = row.phase === "protected";
      const symptoms = itemSymptoms({
        machine,
        isReplicating,
        newestPointUnixMs: row.newest_point_at ?? undefined,
        pointsKnownUnixMs,
        rpoThresholdMinutes: policy.rpoThresholdMinutes,
        nowUnixMs,
      });
      const health = healthOf(symptoms, isReplicating);
      return {
        machineId: row.machine_id,
        itemId: armIdOf(vault, itemPath(fabric.name, fabricId, row.name)),
        policyId: row.policy_id,
        processServerId: machine?.facts?.processServerId ?? row.process_server_id ?? undefined,
        health: health === "None" ? "Normal" : health,
        symptoms: symptoms.map((symptom) => ({
          ...symptom,
          error: healthErrorBody(symptom, nowUnixMs, row.machine_id),
        })),
      };
    });
  }

  /** Keeps the newest point of each machine, and lets the wish of a machine follow its disks. */
  async statusArrived(tx: VaultTransaction, fabricId: Uuid, status: FabricStatus): Promise<void> {
    const points = status.machines.flatMap(({ machineId, facts }) => {
      const point = facts?.newestPoint;
      if (point === undefined || point.class === "fuzzy") return [];
      return [{ machine_id: machineId, slot: point.slot, made_at: point.unixMs }];
    });
    if (points.length > 0) await keepPoints(tx, fabricId, points);
    await this.#followDisks(tx, fabricId, status);
  }

  /** A disk that was added has no key at the fabric yet: the wish is made anew. */
  async #followDisks(tx: VaultTransaction, fabricId: Uuid, status: FabricStatus): Promise<void> {
    const disksOf = new Map(
      status.machines
        .filter(({ registration }) => registration !== undefined)
        .map((machine) => [machine.machineId, knownDisksOf(machine)] as const),
    );
    if (disksOf.size === 0) return;
    const rows = await tx
      .selectFrom("protected_item")
      .select(["id", "machine_id", "known_disks"])
      .where("fabric_id", "=", fabricId)
      .where("phase", "=", "protected")
      .execute();
    let hasChanged = false;
    for (const { id, machine_id: machineId, known_disks: known } of rows) {
      const disks = disksOf.get(machineId);
      if (disks === undefined || isDeepStrictEqual(disks, known)) continue;
      hasChanged = true;
      await tx
        .updateTable("protected_item")
        .set({ known_disks: JSON.stringify(disks) })
        .where("id", "=", id)
        .execute();
    }
    if (hasChanged) await this.#context.fabrics.changed(tx, fabricId);
  }

  async #wish(
    row: ItemRow & {
      readonly point_interval_seconds: number;
      readonly app_point_interval_seconds: number;
      readonly machine_document: unknown;
    },
    keyOf: ReturnType<ItemKeys["forWish"]>,
    signal: AbortSignal,
  ): Promise<DesiredItem> {
    const machine = (row.machine_document ?? undefined) as FabricMachine | undefined;
    const excludedDisks = excludedDisksOf(row);
    const isProtected = row.phase === "protected";
    const grant = await machineGrantOf(
      this.#context,
      {
        vaultId: row.vault_id,
        machineId: row.machine_id,
        groupId: groupIdOf(row),
        disks: (machine?.registration?.disks ?? []).filter(
          ({ identity }) => !excludedDisks.includes(identity),
        ),
        claimGrants: row.claim_grants,
      },
      signal,
      (diskId, read) => keyOf(row, diskId, read),
    );
    return {
      grant,
      isProtected,
      ...(isProtected ? {} : { stoppedReason: "FAILED_OVER" }),
      excludedDisks,
      pointIntervalSeconds: row.point_interval_seconds,
      appPointIntervalSeconds: row.app_point_interval_seconds,
      resyncRequest: row.resync_request,
      ...(row.process_server_id === null ? {} : { processServerId: row.process_server_id }),
    };
  }
}

/** One statement for all machines. A point that is not newer than the known one changes nothing. */
async function keepPoints(
  tx: VaultTransaction,
  fabricId: Uuid,
  points: readonly { readonly machine_id: Uuid; readonly slot: number; readonly made_at: number }[],
): Promise<void> {
  await sql`
    update protected_item set newest_point_slot = point.slot, newest_point_at = point.made_at
    from jsonb_to_recordset(${JSON.stringify(points)}::jsonb) as point (machine_id uuid, slot bigint, made_at bigint)
    where fabric_id = ${fabricId} and protected_item.machine_id = point.machine_id
      and (newest_point_slot is null or newest_point_slot < point.slot)`.execute(tx);
}
