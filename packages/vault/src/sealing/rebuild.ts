import { OsrError } from "@osr/base/errors";
import { object, text } from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { KIB } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { Identity } from "@osr/certificates/site-authority";
import { type SealedChain, readSealedChain, sealedVaults } from "@osr/repository/sealed-state";
import { sql } from "kysely";

import type { VaultTransaction } from "../database/database.ts";
import { MIGRATIONS } from "../database/migrations.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { RESTORED_TABLES, type RestoredTable } from "./restored-tables.ts";
import { restorePoints } from "./restored-points.ts";
import { CHANGES_PER_WHOLE, type SealPorts, sealWaiting } from "./seal-chain.ts";

/** Numbers that are only compared (lease tokens, revisions) go on far above those of the lost vault: epoch times this. */
const NUMBERS_PER_EPOCH = 2 ** 32;

export type RebuiltVault = {
  readonly vaultId: Uuid;
  readonly armId: string;
  readonly epoch: number;
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
};

export type Rebuilt = {
  readonly vaults: readonly RebuiltVault[];
  /** Certificate authority of the lost vault: configuration servers know no other. */
  readonly authority: Identity;
};

const identityShape = object<Identity>({
  certificatePem: text(16 * KIB),
  privateKeyPem: text(16 * KIB),
});

const armIdShape = text(2048);

type Found = { readonly vaultId: Uuid; readonly chain: SealedChain };

/**
 * Fills an empty, migrated database from the sealed state of all vaults in the storage account, and takes over from the vault that wrote it: that one
 * stops as soon as it looks. Throws VAULT_NOT_EMPTY, VAULT_NOT_SEALED, SCHEMA_NEWER, SEALED_STATE_INVALID, SEALED_STATE_BROKEN.
 */
export async function rebuildVault(ports: SealPorts, signal: AbortSignal): Promise<Rebuilt> {
  const { database, store, vaultKey } = ports;
  const taken = await database.selectFrom("vault").select("arm_id").limit(1).executeTakeFirst();
  if (taken !== undefined)
    throw new OsrError(VAULT_ERRORS.VAULT_NOT_EMPTY, `the database holds ${taken.arm_id} already`);
  const found: Found[] = [];
  for (const vaultId of await sealedVaults(store, signal)) {
    const chain = await readSealedChain(store, { vaultId, vaultKey }, signal);
    // A vault that was deleted has left its end of the chain.
    if (chain?.documents.some(({ kind }) => kind === "vault") === true)
      found.push({ vaultId, chain });
  }
  const authority = authorityOf(found);
  const vaults = await database.transaction().execute(async (tx) => restore(tx, found, ports));
  // Whoever creates the next object of a chain goes on with it: from here the old vault is out.
  for (const { vaultId } of vaults) {
    await sealWaiting(ports, vaultId, signal);
    await restorePoints(ports, vaultId, signal);
  }
  return { vaults, authority };
}

function authorityOf(found: readonly Found[]): Identity {
  const document = found
    .flatMap(({ chain }) => chain.documents)
    .find(({ kind }) => kind === "authority");
  if (document !== undefined) return identityShape(document.value, "authority");
  throw new OsrError(
    VAULT_ERRORS.VAULT_NOT_SEALED,
    "the storage account holds no sealed state of a vault",
  );
}

async function restore(
  tx: VaultTransaction,
  found: readonly Found[],
  ports: SealPorts,
): Promise<readonly RebuiltVault[]> {
  const vaults: RebuiltVault[] = [];
  let epochMax = 0;
  for (const { vaultId, chain } of found) {
    if (chain.schema > MIGRATIONS.length)
      throw new OsrError(
        VAULT_ERRORS.SCHEMA_NEWER,
        `vault ${vaultId} was written at schema ${chain.schema}, this version knows ${MIGRATIONS.length}`,
      );
    const epoch = chain.epoch + 1;
    epochMax = Math.max(epochMax, epoch);
    const rows: Record<string, number> = {};
    for (const table of RESTORED_TABLES) {
      const values = valuesOf(chain, table, {
        firstNumber: epoch * NUMBERS_PER_EPOCH,
        nowMs: ports.clock.unixMs(),
      });
      rows[table.name] = await insertRows(tx, table.name, values);
    }
    await tx
      .insertInto("seal_head")
      .values({
        vault_id: vaultId,
        writer_id: randomUuid(ports.randomness),
        epoch,
        number: chain.number,
        sha256: chain.sha256,
        // The next object is a whole one.
        whole_number: chain.number - CHANGES_PER_WHOLE,
      })
      .execute();
    await keepAuthority(tx, vaultId, chain);
    const vault = chain.documents.find(({ kind }) => kind === "vault");
    vaults.push({ vaultId, armId: armIdShape(vault?.value?.["arm_id"], "arm_id"), epoch, rows });
  }
  const token = epochMax * NUMBERS_PER_EPOCH;
  await sql`
    insert into lease (id, node_id, token, renewed_at)
    values (1, ${randomUuid(ports.randomness)}, ${token}, ${ports.clock.unixMs()})
    on conflict (id) do update set token = excluded.token`.execute(tx);
  return vaults;
}

async function keepAuthority(
  tx: VaultTransaction,
  vaultId: Uuid,
  chain: SealedChain,
): Promise<void> {
  for (const { kind, id, value } of chain.documents)
    if (kind === "authority")
      await tx
        .insertInto("seal_document")
        .values({ vault_id: vaultId, kind, id, value: JSON.stringify(value), sealed_seq: null })
        .execute();
}

/** Rows of a table in an order in which they may be inserted. */
function valuesOf(
  chain: SealedChain,
  table: RestoredTable,
  at: Parameters<RestoredTable["filled"]>[1],
): readonly JsonObject[] {
  const values = chain.documents
    .filter(({ kind }) => kind === table.name)
    .flatMap(({ value }) => (value === null ? [] : [value]));
  const { refersToItself: column } = table;
  const isReferring = (value: JsonObject): number =>
    column !== undefined && value[column] !== null ? 1 : 0;
  return values
    .toSorted((a, b) => isReferring(a) - isReferring(b))
    .map((value) => ({ ...value, ...table.filled(value, at) }));
}

/** Inserts what this version has columns for; columns that the writer did not know have their defaults. */
async function insertRows(
  tx: VaultTransaction,
  table: string,
  values: readonly JsonObject[],
): Promise<number> {
  const { rows: columns } = await sql<{ name: string }>`
    select column_name as name from information_schema.columns
    where table_schema = current_schema() and table_name = ${table} and is_identity = 'NO'`.execute(
    tx,
  );
  for (const value of values) {
    const names = columns.filter(({ name }) => value[name] !== undefined);
    const list = sql.join(names.map(({ name }) => sql.ref(name)));
    await sql`
      insert into ${sql.table(table)} (${list})
      select ${list} from jsonb_populate_record(null::${sql.table(table)}, ${JSON.stringify(value)}::jsonb)`.execute(
      tx,
    );
  }
  return values.length;
}
