import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Identity } from "@osr/certificates/site-authority";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { sealedStateName, sealedStatePrefix } from "@osr/repository/object-names";
import { type ObjectStore, STORE_ERRORS, bodyOf } from "@osr/repository/object-store";
import { readSealedChain } from "@osr/repository/sealed-state";
import { coded } from "@osr/repository/testing/coded-error";
import { temporaryStore } from "@osr/repository/testing/temporary-store";
import { OsrError } from "@osr/base/errors";
import { sql } from "kysely";

import { migrate } from "../database/migrate.ts";
import { type OpenDatabase, openDatabase } from "../database/open-database.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { rebuildVault } from "./rebuild.ts";
import { CHANGES_PER_WHOLE } from "./seal-chain.ts";
import { Sealer } from "./sealer.ts";

const vaultId = uuidOfName("sealing", "vault");
const vaultKey = Buffer.alloc(32, 7);
const authority: Identity = { certificatePem: "certificate", privateKeyPem: "key" };
const { signal } = new AbortController();

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

async function newDatabase(): Promise<OpenDatabase> {
  const open = openDatabase(await postgres.newDatabase(), silentLog);
  await migrate(open.pool, systemClock);
  return open;
}

function sealerOf({ database }: OpenDatabase, store: ObjectStore): Sealer {
  return new Sealer({
    database,
    store,
    vaultKey,
    authority,
    clock: systemClock,
    randomness: systemRandomness,
    scheduler: systemScheduler,
    log: silentLog,
  });
}

function portsOf(
  { database }: OpenDatabase,
  store: ObjectStore,
): Parameters<typeof rebuildVault>[0] {
  const common = { clock: systemClock, randomness: systemRandomness, log: silentLog };
  return { database, store, vaultKey, ...common };
}

async function addVault({ database }: OpenDatabase): Promise<void> {
  await database
    .insertInto("vault")
    .values({
      id: vaultId,
      key: "/v",
      arm_id: "/V",
      subscription_id: "s",
      resource_group: "rg",
      name: "v",
      location: "local",
      sku: "{}",
      tags: "{}",
      properties: "{}",
      etag: "e",
      created_at: 1,
    })
    .execute();
}

async function addPolicy({ database }: OpenDatabase, name: string, of?: string): Promise<void> {
  await database
    .insertInto("policy")
    .values({
      id: uuidOfName("policy", name),
      vault_id: vaultId,
      key: name,
      name,
      provider: of === undefined ? "InMageAzureV2" : "InMage",
      failback_of: of === undefined ? null : uuidOfName("policy", of),
      rpo_threshold_minutes: 15,
      retention_minutes: 1440,
      point_interval_seconds: 300,
      app_point_interval_seconds: 0,
      is_multi_vm: false,
      created_at: 1,
      changed_at: 1,
    })
    .execute();
}

async function addFabric({ database }: OpenDatabase): Promise<Uuid> {
  const id = uuidOfName("sealing", "fabric");
  await database
    .insertInto("fabric")
    .values({
      id,
      vault_id: vaultId,
      key: "f",
      name: "f",
      host_name: "h",
      version: "1",
      site_authority_pem: "site",
      takeover_key: "t",
      certificate_serial: "1",
      previous_serial: null,
      certificate_expires_at: 1,
      revision: 5,
      applied_revision: 4,
      status: null,
      last_heartbeat_at: 3,
      wants_whole: false,
      registered_at: 1,
    })
    .execute();
  return id;
}

async function objectsOf(store: ObjectStore): Promise<number> {
  return (await store.list(sealedStatePrefix(vaultId))).objects.length;
}

test("who waits until something is sealed waits for a database that goes away meanwhile", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  await addVault(open);
  const sealer = sealerOf(open, at.store);
  const sealed = Promise.withResolvers<void>();
  await open.database.transaction().execute(async (tx) => {
    await sql`lock table seal_document in access exclusive mode`.execute(tx);
    sealer.sealed(vaultId, signal).then(sealed.resolve, sealed.reject);
    for (let broken = 0; broken === 0; await systemScheduler.sleep(10)) {
      const { rows } = await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`.execute(open.database);
      broken = rows.length;
    }
  });
  await sealed.promise;
  assert.equal(await objectsOf(at.store), 1);
  await sealer.stop();
});

test("what is committed is sealed, and a report that changes nothing else seals nothing", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  const sealer = sealerOf(open, at.store);
  await addVault(open);
  await addPolicy(open, "p");
  const fabricId = await addFabric(open);
  await sealer.sealed(vaultId, signal);
  const chain = await readSealedChain(at.store, { vaultId, vaultKey });
  assert.deepEqual(chain?.documents.map(({ kind }) => kind).toSorted(), [
    "authority",
    "fabric",
    "policy",
    "vault",
  ]);
  const objects = await objectsOf(at.store);
  await open.database
    .updateTable("fabric")
    .set({ revision: 6, last_heartbeat_at: 9, status: "{}" })
    .where("id", "=", fabricId)
    .execute();
  await sealer.sealed(vaultId, signal);
  assert.equal(await objectsOf(at.store), objects);
  await open.database.deleteFrom("policy").execute();
  await sealer.sealed(vaultId, signal);
  const later = await readSealedChain(at.store, { vaultId, vaultKey });
  assert.ok(later?.documents.every(({ kind }) => kind !== "policy"));
});

test("a database that is gone is made again from the storage account and the vault key, and the old vault stops", async () => {
  await using at = await temporaryStore();
  await using old = await newDatabase();
  const oldSealer = sealerOf(old, at.store);
  await addVault(old);
  await addPolicy(old, "zz");
  await addPolicy(old, "aa-failback", "zz");
  const fabricId = await addFabric(old);
  await oldSealer.sealed(vaultId, signal);

  await using fresh = await newDatabase();
  const rebuilt = await rebuildVault(portsOf(fresh, at.store), signal);
  assert.deepEqual(rebuilt.authority, authority);
  assert.deepEqual(
    rebuilt.vaults.map(({ armId, epoch }) => [armId, epoch]),
    [["/V", 2]],
  );
  const names = await fresh.database.selectFrom("policy").select(["name", "failback_of"]).execute();
  assert.equal(names.length, 2);
  const fabric = await fresh.database.selectFrom("fabric").selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([fabric.id, fabric.takeover_key, fabric.wants_whole], [fabricId, "t", true]);
  assert.ok(
    fabric.revision > 2 ** 32,
    "no configuration server takes the new wish for the old one",
  );
  const lease = await fresh.database.selectFrom("lease").select("token").executeTakeFirstOrThrow();
  assert.ok(lease.token > 2 ** 32);

  await addPolicy(old, "late");
  await assert.rejects(oldSealer.sealed(vaultId, signal), coded(VAULT_ERRORS.VAULT_REPLACED));
  await assert.rejects(oldSealer.run(), coded(VAULT_ERRORS.VAULT_REPLACED));
  await oldSealer.stop();
  await assert.rejects(
    rebuildVault(portsOf(fresh, at.store), signal),
    coded(VAULT_ERRORS.VAULT_NOT_EMPTY),
  );
});

test("the older of two vaults stops though it has nothing to write", async () => {
  await using at = await temporaryStore();
  await using old = await newDatabase();
  const oldSealer = sealerOf(old, at.store);
  await addVault(old);
  await oldSealer.sealed(vaultId, signal);
  await using fresh = await newDatabase();
  await rebuildVault(portsOf(fresh, at.store), signal);
  await assert.rejects(oldSealer.run(), coded(VAULT_ERRORS.VAULT_REPLACED));
  await oldSealer.stop();
});

test("an object whose creation was not answered is taken for our own, and nothing is lost", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  let isLost = true;
  const lossy: ObjectStore = Object.assign(Object.create(at.store), {
    create: async (...args: Parameters<ObjectStore["create"]>) => {
      await at.store.create(...args);
      if (!isLost) return;
      isLost = false;
      // Another change comes in between.
      await addPolicy(open, "p");
      throw new OsrError(STORE_ERRORS.STORE_UNAVAILABLE, "the answer was lost");
    },
  });
  for (const call of ["head", "read", "readStart", "list", "delete"] as const)
    Object.assign(lossy, { [call]: at.store[call].bind(at.store) });
  await addVault(open);
  await sealerOf(open, lossy).sealed(vaultId, signal);
  const chain = await readSealedChain(at.store, { vaultId, vaultKey });
  assert.deepEqual([chain?.number, chain?.documents.length], [2, 3]);
});

test("numbers that somebody without the key has taken are passed over", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  for (const number of [1, 2])
    await at.store.create(sealedStateName(vaultId, number), bodyOf(Buffer.from("{}")));
  await addVault(open);
  await sealerOf(open, at.store).sealed(vaultId, signal);
  const chain = await readSealedChain(at.store, { vaultId, vaultKey });
  assert.deepEqual([chain?.number, chain?.documents.length], [3, 2]);
});

test("a database that was restored from an older copy does not go on", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  const sealer = sealerOf(open, at.store);
  await addVault(open);
  await sealer.sealed(vaultId, signal);
  const before = await open.database.selectFrom("seal_head").selectAll().executeTakeFirstOrThrow();
  await addPolicy(open, "p");
  await sealer.sealed(vaultId, signal);
  // As the copy has it.
  await open.database.updateTable("seal_head").set(before).execute();
  await sql`delete from policy`.execute(open.database);
  await sql`update seal_document set seq = 1, sealed_seq = null`.execute(open.database);
  await sql`select setval('seal_seq', 1)`.execute(open.database);
  await assert.rejects(sealer.sealed(vaultId, signal), coded(VAULT_ERRORS.VAULT_DATABASE_OLD));
});

test("a whole object comes in time, and what is before the one before is dropped", async () => {
  await using at = await temporaryStore();
  await using open = await newDatabase();
  const sealer = sealerOf(open, at.store);
  await addVault(open);
  await sealer.sealed(vaultId, signal);
  await sql`update seal_head set number = number + ${CHANGES_PER_WHOLE}`.execute(open.database);
  await addPolicy(open, "p");
  await sealer.sealed(vaultId, signal);
  const chain = await readSealedChain(at.store, { vaultId, vaultKey });
  assert.deepEqual([chain?.number, chain?.documents.length], [CHANGES_PER_WHOLE + 2, 3]);
  await sql`update seal_head set number = number + ${CHANGES_PER_WHOLE}`.execute(open.database);
  await addPolicy(open, "q");
  await sealer.sealed(vaultId, signal);
  assert.equal(await objectsOf(at.store), 2);
});
