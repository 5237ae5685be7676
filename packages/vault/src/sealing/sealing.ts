import type { Uuid } from "@osr/base/uuid";

/** Keeps what a vault must not lose in the storage account, too. */
export interface Sealing {
  /**
   * Resolves when all that had been committed for the vault is sealed in the storage account, however long that is away. What must not be lost
   * (enabling, disabling, committing) has succeeded only then. Rejects with the signal's reason, with VAULT_REPLACED or with VAULT_DATABASE_OLD.
   */
  sealed(vaultId: Uuid, signal: AbortSignal): Promise<void>;
}
