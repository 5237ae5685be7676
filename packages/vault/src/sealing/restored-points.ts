import type { Uuid } from "@osr/base/uuid";

import { groupIdOf } from "../items/item-row.ts";
import { refreshPoints } from "../items/recovery-points.ts";
import type { SealPorts } from "./seal-chain.ts";

/** Finds the recovery points of restored items: their machines may be lost, and will not report any. */
export async function restorePoints(
  ports: SealPorts,
  vaultId: Uuid,
  signal: AbortSignal,
): Promise<void> {
  const { database } = ports;
  const items = await database
    .selectFrom("protected_item")
    .select(["id", "machine_id"])
    .where("vault_id", "=", vaultId)
    .execute();
  for (const item of items) {
    const groupId = groupIdOf(item);
    await refreshPoints(ports, vaultId, groupId, signal);
    const newest = await database
      .selectFrom("recovery_point")
      .select(["slot", "made_at"])
      .where("vault_id", "=", vaultId)
      .where("group_id", "=", groupId)
      .orderBy("slot", "desc")
      .executeTakeFirst();
    if (newest !== undefined)
      await database
        .updateTable("protected_item")
        .set({ newest_point_slot: newest.slot, newest_point_at: newest.made_at })
        .where("id", "=", item.id)
        .execute();
  }
}
