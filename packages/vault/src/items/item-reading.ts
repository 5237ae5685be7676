import { sql } from "kysely";

import type { Uuid } from "@osr/base/uuid";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { FailoverCheck } from "./failover-check.ts";
import type { ItemReading } from "./item-body.ts";
import { pointsKnownUnixMs } from "./item-health.ts";
import type { ItemRow } from "./item-row.ts";

const ITEMS_MAX = 5000;

/** Items of a vault, or of one fabric, or one item, with what they are shown with: one statement however many there are. */
export async function readItems(
  database: VaultDatabase | VaultTransaction,
  vaultId: Uuid,
  only: {
    readonly fabricId?: Uuid;
    readonly itemId?: Uuid;
    /** Name of an item of the fabric, in lower case. */
    readonly key?: string;
    /** Key and id of the item after which a page begins, and how many it has. */
    readonly after?: readonly (string | number)[] | undefined;
    readonly limit?: number;
  } = {},
): Promise<readonly ItemReading[]> {
  const { fabricId, itemId, key, after, limit = ITEMS_MAX } = only;
  let query = shownItems(database)
    .where("protected_item.vault_id", "=", vaultId)
    .orderBy("protected_item.key")
    .orderBy(sql`protected_item.id::text`)
    .limit(limit);
  if (fabricId !== undefined) query = query.where("protected_item.fabric_id", "=", fabricId);
  if (itemId !== undefined) query = query.where("protected_item.id", "=", itemId);
  if (key !== undefined) query = query.where("protected_item.key", "=", key);
  if (after !== undefined)
    query = query.where(
      sql<boolean>`(protected_item.key, protected_item.id::text) > (${String(after[0])}, ${String(after[1])})`,
    );
  return (await query.execute()).map((row) => {
    const document = row.machine_document as unknown as FabricMachine | null;
    return {
      row: row satisfies ItemRow,
      fabric: { id: row.fabric_id, name: row.fabric_name },
      policy: {
        name: row.policy_name,
        rpoThresholdMinutes: row.rpo_threshold_minutes,
        isMultiVm: row.is_multi_vm,
      },
      machine: document ?? undefined,
      pointsKnownUnixMs: pointsKnownUnixMs(document?.lastSeenUnixMs, row.listed_at),
      failoverCheck: failoverCheckOf(row),
      runningJob: runningJobOf(row),
    };
  });
}

/** Items with what they are shown with. */
function shownItems(database: VaultDatabase | VaultTransaction) {
  return database
    .selectFrom("protected_item")
    .innerJoin("fabric", "fabric.id", "protected_item.fabric_id")
    .innerJoin("policy", "policy.id", "protected_item.policy_id")
    .leftJoin("fabric_machine", (join) =>
      join
        .onRef("fabric_machine.fabric_id", "=", "protected_item.fabric_id")
        .onRef("fabric_machine.machine_id", "=", "protected_item.machine_id"),
    )
    .leftJoin("job", (join) =>
      join.onRef("job.id", "=", "protected_item.job_id").on("job.ended_at", "is", null),
    )
    .leftJoin("point_listing", (join) =>
      join
        .onRef("point_listing.vault_id", "=", "protected_item.vault_id")
        .onRef("point_listing.group_id", "=", "protected_item.machine_id"),
    )
    .leftJoin("failover_check", "failover_check.item_id", "protected_item.id")
    .selectAll("protected_item")
    .select([
      "point_listing.listed_at",
      "failover_check.objections",
      "failover_check.checked_at",
      "fabric.name as fabric_name",
      "policy.name as policy_name",
      "policy.rpo_threshold_minutes",
      "policy.is_multi_vm",
      "fabric_machine.document as machine_document",
      "job.started_at as job_started_at",
      "job.created_at as job_created_at",
      "job.kind as running_job_kind",
    ]);
}

function failoverCheckOf(row: {
  readonly objections: unknown;
  readonly checked_at: number | null;
}): FailoverCheck | undefined {
  if (row.checked_at === null) return undefined;
  // As the check stored them.
  const objections = row.objections as FailoverCheck["objections"];
  return { objections, checkedUnixMs: row.checked_at };
}

function runningJobOf(row: {
  readonly job_id: Uuid | null;
  readonly running_job_kind: string | null;
  readonly job_started_at: number | null;
  readonly job_created_at: number | null;
}): ItemReading["runningJob"] {
  const { job_id: id, running_job_kind: kind } = row;
  if (id === null || kind === null) return undefined;
  return { id, kind, startedAt: row.job_started_at ?? row.job_created_at ?? 0 };
}
