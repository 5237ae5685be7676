import type { Kysely, Transaction } from "kysely";

import type { ItemTables } from "../items/item-tables.ts";
import type { SealTables } from "../sealing/seal-tables.ts";
import type { CoreTables } from "./core-tables.ts";

/** All tables of the vault. Each part of it declares its own and adds them here. */
export type VaultTables = CoreTables & ItemTables & SealTables;

/** The pool: for reads, and as the beginning of transactions. */
export type VaultDatabase = Kysely<VaultTables>;

/** One transaction, at READ COMMITTED: take what you change with FOR UPDATE. */
export type VaultTransaction = Transaction<VaultTables>;
