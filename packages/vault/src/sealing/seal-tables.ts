import type { ColumnType, Generated } from "kysely";

import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

/** Tables of the sealed state: docs/formats/sealed-state.md. */
export type SealTables = { seal_head: SealHeadTable; seal_document: SealDocumentTable };

/** Where the chain of a vault ends that this database knows. */
export type SealHeadTable = {
  vault_id: Uuid;
  /** Of this database: a rebuilt one has another. */
  writer_id: Uuid;
  epoch: number;
  /** Of the newest object; 0 where there is none. */
  number: number;
  sha256: string;
  /** Of the newest object that holds everything. */
  whole_number: number;
};

/** Recovery-critical rows as they are to be sealed; triggers write it. */
export type SealDocumentTable = {
  vault_id: Uuid;
  /** The table, or `authority`. */
  kind: string;
  id: string;
  /** Null: the row is gone. */
  value: ColumnType<JsonObject | null, string | null, string | null>;
  /** Grows with every change. */
  seq: Generated<number>;
  /** `seq` of what is in the storage account. */
  sealed_seq: number | null;
};
