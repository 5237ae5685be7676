import { OsrError, hasCode } from "@osr/base/errors";
import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import { parseSealedName, sealedStateName, sealedStatePrefix } from "@osr/repository/object-names";
import { type ObjectStore, STORE_ERRORS, bodyOf, listAll } from "@osr/repository/object-store";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import {
  FORGED_SEALS_MAX,
  SEALED_BYTES_MAX,
  type SealedDocument,
  type SealedState,
  decodeSealedState,
  encodeSealedState,
  sealedHash,
} from "@osr/repository/sealed-state";
import { readSmallObject } from "@osr/repository/small-object";
import { sql } from "kysely";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { MIGRATIONS } from "../database/migrations.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import type { SealHeadTable } from "./seal-tables.ts";

/** A reader needs at most this many objects after a whole one. */
export const CHANGES_PER_WHOLE = 256;
const DOCUMENTS_PER_OBJECT_MAX = 5000;
const NONCE_BYTES = 12;

export type SealPorts = {
  readonly database: VaultDatabase;
  readonly store: ObjectStore;
  readonly vaultKey: Buffer;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
};

type Head = SealHeadTable;
type Sealed = { readonly number: number; readonly sha256: string; readonly state: SealedState };

/**
 * Seals all that waits of one vault. Order: the object is created, then the database remembers its number and what was in it; a crash between is found at
 * the next call, where the number is taken by an object of our own. Calls for one vault come one after the other.
 */
export async function sealWaiting(
  ports: SealPorts,
  vaultId: Uuid,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const head = await headOf(ports, vaultId);
    const waiting = await waitingDocuments(ports.database, vaultId);
    if (waiting.length === 0) return;
    const isWhole = head.number === 0 || head.number - head.whole_number >= CHANGES_PER_WHOLE;
    const rows = isWhole ? await allDocuments(ports.database, vaultId) : waiting;
    const state: SealedState = {
      epoch: head.epoch,
      writerId: head.writer_id,
      unixMs: ports.clock.unixMs(),
      kind: isWhole ? "whole" : "changes",
      previous: head.sha256,
      schema: MIGRATIONS.length,
      documents: isWhole ? rows.filter(({ value }) => value !== null) : rows,
    };
    const sealed = await create(ports, head, state, signal);
    // Where our own earlier object was found, what is in that one is sealed, and the rest waits.
    await remember(ports, head, sealed, sealed.state === state ? rows : sealed.state.documents);
    if (sealed.state.kind === "whole") await dropOlder(ports, head, signal);
  }
}

/** Throws VAULT_REPLACED where another vault has gone on with the chain. */
export async function checkNotReplaced(
  ports: SealPorts,
  vaultId: Uuid,
  signal: AbortSignal,
): Promise<void> {
  const head = await headOf(ports, vaultId);
  const sealed = await nextObject(ports, head, head.number + 1, signal);
  if (sealed !== undefined && sealed !== "forged")
    await remember(ports, head, sealed, sealed.state.documents);
}

async function headOf({ database, randomness }: SealPorts, vaultId: Uuid): Promise<Head> {
  const known = await database
    .selectFrom("seal_head")
    .selectAll()
    .where("vault_id", "=", vaultId)
    .executeTakeFirst();
  if (known !== undefined) return known;
  const first = {
    vault_id: vaultId,
    writer_id: randomUuid(randomness),
    epoch: 1,
    number: 0,
    sha256: "",
    whole_number: 0,
  };
  await database.insertInto("seal_head").values(first).execute();
  return first;
}

/** Creates the next object of the chain, past those of somebody without the key, or finds that it was created before. */
async function create(
  ports: SealPorts,
  head: Head,
  state: SealedState,
  signal: AbortSignal,
): Promise<Sealed> {
  const { store, vaultKey, randomness, log } = ports;
  const vaultId = head.vault_id;
  const last = head.number + FORGED_SEALS_MAX;
  for (let number = head.number + 1; number <= last; number++) {
    const id = { vaultId, vaultKey, number };
    const bytes = encodeSealedState(state, id, randomness.bytes(NONCE_BYTES));
    try {
      await store.create(sealedStateName(vaultId, number), bodyOf(bytes), { signal });
      return { number, sha256: sealedHash(bytes), state };
    } catch (error) {
      if (!hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) throw error;
    }
    const taken = await nextObject(ports, head, number, signal);
    if (taken !== undefined && taken !== "forged") return taken;
    log.warn("somebody without the key has taken a number of the sealed state", {
      vaultId,
      number,
    });
  }
  throw new OsrError(
    REPOSITORY_ERRORS.SEALED_STATE_BROKEN,
    `${FORGED_SEALS_MAX} numbers of the sealed state of vault ${vaultId} are taken by objects that do not open`,
  );
}

/** The object at `number`, which is our own; undefined where there is none. Throws VAULT_REPLACED, VAULT_DATABASE_OLD. */
async function nextObject(
  { store, vaultKey, database }: SealPorts,
  head: Head,
  number: number,
  signal: AbortSignal,
): Promise<Sealed | "forged" | undefined> {
  const vaultId = head.vault_id;
  let bytes: Buffer;
  let state: SealedState;
  try {
    bytes = await readSmallObject(
      store,
      sealedStateName(vaultId, number),
      SEALED_BYTES_MAX,
      signal,
    );
    state = decodeSealedState(bytes, { vaultId, vaultKey, number });
  } catch (error) {
    if (hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) return undefined;
    if (hasCode(error, REPOSITORY_ERRORS.SEALED_STATE_INVALID)) return "forged";
    throw error;
  }
  if (state.epoch !== head.epoch || state.writerId !== head.writer_id)
    throw new OsrError(
      VAULT_ERRORS.VAULT_REPLACED,
      `vault ${vaultId} was rebuilt (epoch ${state.epoch}); this one, of epoch ${head.epoch}, stops`,
    );
  const newest = state.documents.reduce((max, { seq }) => Math.max(max, seq), 0);
  const { rows } = await sql<{ last: number }>`select last_value as last from seal_seq`.execute(
    database,
  );
  if (newest > (rows[0]?.last ?? 0))
    throw new OsrError(
      VAULT_ERRORS.VAULT_DATABASE_OLD,
      `the database of vault ${vaultId} is older than the state that it has sealed (object ${number})`,
    );
  return { number, sha256: sealedHash(bytes), state };
}

function waitingDocuments(
  database: VaultDatabase,
  vaultId: Uuid,
): Promise<readonly SealedDocument[]> {
  return database
    .selectFrom("seal_document")
    .select(["kind", "id", "seq", "value"])
    .where("vault_id", "=", vaultId)
    .where(sql<boolean>`sealed_seq is distinct from seq`)
    .orderBy("seq")
    .limit(DOCUMENTS_PER_OBJECT_MAX)
    .execute();
}

function allDocuments(database: VaultDatabase, vaultId: Uuid): Promise<readonly SealedDocument[]> {
  return database
    .selectFrom("seal_document")
    .select(["kind", "id", "seq", "value"])
    .where("vault_id", "=", vaultId)
    .orderBy("kind")
    .orderBy("id")
    .execute();
}

async function remember(
  { database }: SealPorts,
  head: Head,
  { number, sha256, state }: Sealed,
  documents: readonly SealedDocument[],
): Promise<void> {
  const marks = documents.map(({ kind, id, seq }) => ({ kind, id, seq }));
  const isWhole = state.kind === "whole";
  await database.transaction().execute(async (tx: VaultTransaction) => {
    await tx
      .updateTable("seal_head")
      .set({ number, sha256, ...(isWhole ? { whole_number: number } : {}) })
      .where("vault_id", "=", head.vault_id)
      .execute();
    // A row that has changed since it was read has another seq and goes on waiting.
    await sql`
      update seal_document as d set sealed_seq = m.seq
      from jsonb_to_recordset(${JSON.stringify(marks)}::jsonb) as m (kind text, id text, seq bigint)
      where d.vault_id = ${head.vault_id} and d.kind = m.kind and d.id = m.id and d.seq = m.seq`.execute(
      tx,
    );
    if (isWhole)
      await sql`
        delete from seal_document
        where vault_id = ${head.vault_id} and value is null and sealed_seq = seq`.execute(tx);
  });
}

/** Objects before the whole one before the newest: nobody reads them any more. */
async function dropOlder(
  { store, log }: SealPorts,
  head: Head,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const { name } of listAll(store, sealedStatePrefix(head.vault_id), signal)) {
      const parsed = parseSealedName(name);
      if (parsed !== undefined && parsed.number >= head.whole_number) return;
      await store.delete(name, signal);
    }
  } catch (error) {
    log.info("old sealed state could not be deleted; it is tried again later", { error });
  }
}
