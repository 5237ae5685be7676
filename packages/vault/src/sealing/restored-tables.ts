import type { JsonObject } from "@osr/base/json-value";

import { restoredItem } from "../items/restored-item.ts";

export type RestoredTable = {
  readonly name: string;
  /** A column that refers to another row of the table. */
  readonly refersToItself?: string;
  /** Columns that are not sealed, or that are not to be as they were. `firstNumber` is above every number of the lost vault. */
  readonly filled: (
    value: JsonObject,
    at: { readonly firstNumber: number; readonly nowMs: number },
  ) => JsonObject;
};

const nothing = (): JsonObject => ({});

/** Sealed tables, each after those that it refers to. Their triggers are in migrations 5, 6 and 10. */
export const RESTORED_TABLES: readonly RestoredTable[] = [
  { name: "vault", filled: nothing },
  { name: "vault_document", filled: nothing },
  { name: "policy", refersToItself: "failback_of", filled: nothing },
  {
    name: "fabric",
    filled: (_, { firstNumber }) => ({
      revision: firstNumber,
      applied_revision: 0,
      status: null,
      last_heartbeat_at: null,
      wants_whole: true,
    }),
  },
  {
    name: "fabric_machine",
    filled: (_, { nowMs }) => ({ last_seen_at: null, reported_at: nowMs }),
  },
  { name: "container_mapping", filled: nothing },
  { name: "recovery_network", filled: nothing },
  { name: "protected_item", filled: restoredItem },
  { name: "replica_machine", filled: nothing },
];
