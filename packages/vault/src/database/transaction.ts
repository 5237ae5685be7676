import { systemErrorCode } from "@osr/base/errors";

import type { VaultDatabase, VaultTransaction } from "./database.ts";

const ATTEMPTS_MAX = 6;
/** SQLSTATE: a serialisation failure, a deadlock that this transaction was chosen to lose. */
const LOST = ["40001", "40P01"];

/**
 * Runs `work` in a transaction, and again where it has lost a deadlock: reports, requests and jobs lock items and fabrics, and no order of locks holds
 * for all that may ever be written. So `work` has no side effects outside of its transaction.
 */
export async function inTransaction<T>(
  database: VaultDatabase,
  work: (tx: VaultTransaction) => Promise<T>,
): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await database.transaction().execute(work);
    } catch (error) {
      if (!LOST.includes(systemErrorCode(error) ?? "") || attempts >= ATTEMPTS_MAX) throw error;
    }
  }
}
