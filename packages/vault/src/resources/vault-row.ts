import type { VaultRow } from "../arm/resource-routes.ts";
import type { VaultDatabase } from "../database/database.ts";

/** The vault of an ARM path's first eight segments, or undefined. */
export async function findVault(
  database: VaultDatabase,
  segments: readonly string[],
): Promise<VaultRow | undefined> {
  const row = await database
    .selectFrom("vault")
    .select(["id", "arm_id", "name"])
    .where("key", "=", vaultKey(segments))
    .executeTakeFirst();
  return row === undefined ? undefined : { id: row.id, armId: row.arm_id, name: row.name };
}

/** Names a vault whatever the letters' case. */
export function vaultKey(segments: readonly string[]): string {
  return `/${segments.join("/")}`.toLowerCase();
}
