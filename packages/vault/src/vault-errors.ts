import { defineErrors } from "@osr/base/errors";

/** What the vault reports by itself. Refusals of requests are ArmErrors. */
export const VAULT_ERRORS = defineErrors({
  SCHEMA_NEWER: {
    retryable: false,
    hint: "A newer version of the vault has used this database. Start that version.",
  },
  SCHEMA_CHANGED: {
    retryable: false,
    hint: "This is another build of the vault than the one that made the database. Start that one, or restore a backup.",
  },
  LEASE_LOST: {
    retryable: false,
    hint: "Another vault process has taken over this database; this one stops. Run one vault for a database.",
  },
  LEASE_HELD: {
    retryable: true,
    hint: "Another vault process works on this database. Stop it, or give this one a database of its own.",
  },
  JOB_STATE: { retryable: false, hint: "Look at the job's state and its allowed actions." },
  JOB_NOT_FOUND: { retryable: false, hint: "List the jobs of the vault." },
  JOB_CANCELLED: { retryable: false, hint: "Start the operation again if it is still wanted." },
  VAULT_STOPPING: { retryable: true, hint: "The operation goes on when the vault is back." },
  ORDER_TIMEOUT: {
    retryable: true,
    hint: "The configuration server did not carry out the order in time. Check that it runs and reaches the vault.",
  },
  ORDER_FAILED: { retryable: false, hint: "The message says what the configuration server met." },
  REGISTRATION_REFUSED: {
    retryable: false,
    hint: "Make new vault credentials (osr vault credentials) and register with them; each file is good for one registration within its days.",
  },
  CERTIFICATE_REQUIRED: {
    retryable: false,
    hint: "Register the configuration server again, so that it has a certificate of this vault.",
  },
  CERTIFICATE_EXPIRED: {
    retryable: false,
    hint: "Compare the clocks of both sides. Certificates are renewed in time where the vault is reached; else register the configuration server again.",
  },
  CERTIFICATE_UNTRUSTED: {
    retryable: false,
    hint: "The certificate is of another vault. Register the configuration server with this one, or correct the vault's address.",
  },
  CERTIFICATE_REPLACED: {
    retryable: false,
    hint: "Another configuration server has taken the fabric over. Shut this one down, or register it again.",
  },
  FABRIC_UNKNOWN: {
    retryable: false,
    hint: "The fabric was removed from the vault. Register the configuration server again.",
  },
  FABRIC_NAME_INVALID: {
    retryable: false,
    hint: "Names have up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter or digit.",
  },
  DATABASE_AWAY: { retryable: true, hint: "The request may be sent again in some seconds." },
  TOKEN_NOT_FOUND: { retryable: false, hint: "List the tokens with `osr token list`." },
  VAULT_NOT_FOUND: {
    retryable: false,
    hint: "Name one of the vaults, or make one first (osr vault create).",
  },
  BACKUP_INVALID: {
    retryable: false,
    hint: "Restore with the version of osr that made the backup, from an undamaged file; then start the newer version.",
  },
  DATABASE_NOT_EMPTY: {
    retryable: false,
    hint: "Restore into a new database: move the old one away first.",
  },
  NOT_FOUND: { retryable: false, hint: "See docs/formats/fabric-protocol.md." },
  FABRIC_NAME_TAKEN: {
    retryable: false,
    hint: "Choose another name, or take the fabric over with the secret of its site.",
  },
  VAULT_REPLACED: {
    retryable: false,
    hint: "A vault that was rebuilt from the storage account has taken over. Shut this one down for good; use the new one.",
  },
  VAULT_DATABASE_OLD: {
    retryable: false,
    hint: "The database is an older copy. Start the newest one, or make a vault from the storage account with `osr vault rebuild`.",
  },
  VAULT_NOT_EMPTY: {
    retryable: false,
    hint: "A vault is rebuilt on an empty database only. Name another database.",
  },
  VAULT_NOT_SEALED: {
    retryable: false,
    hint: "Check the storage account, its container and the vault key.",
  },
});
