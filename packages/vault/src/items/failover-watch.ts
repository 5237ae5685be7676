import { HOUR_MS } from "@osr/base/units";
import type { ReplicaObjection } from "@osr/contracts/replica-host";

import { inTransaction } from "../database/transaction.ts";
import { recordEvent } from "../events/record-event.ts";
import type { VaultContext } from "../vault-context.ts";
import { failoverObjections } from "./failover-check.ts";
import type { ItemRow } from "./item-row.ts";

/** Facts, section 11: whatever blocks a failover is looked for every 12 h, or on demand. */
const CHECKED_EVERY_MS = 12 * HOUR_MS;
/** Of one look, so that a vault that was away for long does not read the storage account for all items at once. */
const CHECKS_MAX = 20;

type Ports = Pick<VaultContext, "database" | "replicas" | "clock" | "randomness">;

/**
 * Finds what would be in the way of a failover while there is time to mend it: checks the items whose last check is too long
 * ago, those of which least is known first.
 */
export async function checkFailovers(ports: Ports, signal: AbortSignal): Promise<void> {
  const { database, clock } = ports;
  const rows = await database
    .selectFrom("protected_item")
    .leftJoin("failover_check", "failover_check.item_id", "protected_item.id")
    .selectAll("protected_item")
    .where("phase", "=", "protected")
    .where("newest_point_slot", "is not", null)
    .where((where) =>
      where.or([
        where("failover_check.checked_at", "is", null),
        where("failover_check.checked_at", "<=", clock.unixMs() - CHECKED_EVERY_MS),
      ]),
    )
    .orderBy("failover_check.checked_at", (order) => order.asc().nullsFirst())
    .limit(CHECKS_MAX)
    .execute();
  for (const row of rows) await check(ports, row, signal);
}

async function check(ports: Ports, row: ItemRow, signal: AbortSignal): Promise<void> {
  const { database, clock } = ports;
  const objections = await failoverObjections(ports, row, signal);
  await inTransaction(database, async (tx) => {
    const isThere = await tx
      .selectFrom("protected_item")
      .select("id")
      .where("id", "=", row.id)
      .forUpdate()
      .executeTakeFirst();
    if (isThere === undefined) return;
    const before = await tx
      .selectFrom("failover_check")
      .select("objections")
      .where("item_id", "=", row.id)
      .executeTakeFirst();
    const found = { objections: JSON.stringify(objections), checked_at: clock.unixMs() };
    await tx
      .insertInto("failover_check")
      .values({ item_id: row.id, ...found })
      .onConflict((conflict) => conflict.column("item_id").doUpdateSet(found))
      .execute();
    // Checked against its shape when it was found.
    const old = (before?.objections ?? []) as unknown as readonly ReplicaObjection[];
    const change = changeOf(row, errorsOf(old), errorsOf(objections));
    if (change !== undefined) await recordEvent(tx, change, ports);
  });
}

function errorsOf(objections: readonly ReplicaObjection[]): readonly ReplicaObjection[] {
  return objections.filter(({ level }) => level === "error");
}

/** The event of a check that found something else than the one before. */
function changeOf(
  row: ItemRow,
  before: readonly ReplicaObjection[],
  now: readonly ReplicaObjection[],
): Parameters<typeof recordEvent>[1] | undefined {
  const codes = (all: readonly ReplicaObjection[]): string => all.map(({ code }) => code).join();
  if (codes(before) === codes(now)) return undefined;
  const common = {
    vaultId: row.vault_id,
    eventType: "VmHealth",
    affected: { id: row.machine_id, name: row.friendly_name },
    fabricId: row.fabric_id,
  };
  if (now.length === 0)
    return {
      ...common,
      code: "FAILOVER_READY",
      severity: "Info",
      description: `${row.friendly_name} can be failed over again.`,
    };
  return {
    ...common,
    code: "FAILOVER_BLOCKED",
    severity: "Error",
    description: `${row.friendly_name} could not be failed over: ${now.map(({ message }) => message).join("; ")}`,
    details: { recommendedAction: now.map(({ hint }) => hint).join(" ") },
  };
}
