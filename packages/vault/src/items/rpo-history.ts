import { sql } from "kysely";

import type { Clock } from "@osr/base/clock";
import { HOUR_MS, MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";

export const RPO_SAMPLE_MS = 5 * MINUTE_MS;
export const RPO_HISTORY_HOURS = 72;
/** A column of whole seconds holds no more. */
const RPO_SECONDS_MAX = 2 ** 31 - 1;

export type RpoSample = { readonly unixMs: number; readonly rpoSeconds: number };

/** Notes how old the newest point of each replicating item is, and forgets what is too old: two statements, however many items there are. */
export async function sampleRpo({
  database,
  clock,
}: {
  readonly database: VaultDatabase;
  readonly clock: Clock;
}): Promise<void> {
  const now = Math.floor(clock.unixMs());
  await sql`
    insert into rpo_sample (item_id, sampled_at, rpo_seconds)
    select id, ${now}::bigint, least(greatest((${now}::bigint - newest_point_at) / 1000, 0), ${RPO_SECONDS_MAX})
    from protected_item where phase = 'protected' and newest_point_at is not null
    on conflict do nothing`.execute(database);
  await database
    .deleteFrom("rpo_sample")
    .where("sampled_at", "<", now - RPO_HISTORY_HOURS * HOUR_MS)
    .execute();
}

/** Samples of an item since a time, oldest first. */
export async function rpoHistory(
  database: VaultDatabase,
  itemId: Uuid,
  sinceUnixMs: number,
): Promise<readonly RpoSample[]> {
  const rows = await database
    .selectFrom("rpo_sample")
    .select(["sampled_at", "rpo_seconds"])
    .where("item_id", "=", itemId)
    .where("sampled_at", ">=", sinceUnixMs)
    .orderBy("sampled_at")
    .execute();
  return rows.map((row) => ({ unixMs: row.sampled_at, rpoSeconds: row.rpo_seconds }));
}
