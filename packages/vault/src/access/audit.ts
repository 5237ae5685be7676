import type { Uuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";

/** A write, as it is remembered. */
export type AuditEntry = {
  readonly at: number;
  readonly caller: string;
  readonly tokenId: Uuid | null;
  readonly method: string;
  readonly path: string;
  readonly action: string;
  readonly activityId: string;
  readonly status: number;
  /** Why it was refused. */
  readonly code: string | null;
  readonly jobId: Uuid | null;
};

/** In the transaction of the write; of a refused one, by itself. */
export async function recordAudit(database: VaultDatabase, entry: AuditEntry): Promise<void> {
  await database
    .insertInto("audit")
    .values({
      at: entry.at,
      caller: entry.caller,
      token_id: entry.tokenId,
      method: entry.method,
      path: entry.path,
      action: entry.action,
      activity_id: entry.activityId,
      status: entry.status,
      code: entry.code,
      job_id: entry.jobId,
    })
    .execute();
}
