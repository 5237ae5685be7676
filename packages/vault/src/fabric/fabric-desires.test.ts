import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MINUTE_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import type { VaultDatabase } from "../database/database.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type TestFabric, createVault, register } from "../testing/test-fabric.ts";
import { type TestVault, startTestVault } from "../testing/test-vault.ts";
import { StoredFabricDesires } from "./fabric-desires.ts";

let postgres: TestPostgres;
let vault: TestVault;
let fabric: TestFabric;
before(async () => {
  postgres = await startTestPostgres();
  vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  fabric = await register(vault, { name: "berlin" });
});
after(async () => {
  await vault[Symbol.asyncDispose]();
  await postgres[Symbol.asyncDispose]();
});

const { signal } = new AbortController();

function desires(database: VaultDatabase): StoredFabricDesires {
  const node = { listen: () => ({ [Symbol.dispose]: () => undefined }) };
  return new StoredFabricDesires({
    database,
    node,
    clock: systemClock,
    scheduler: systemScheduler,
  });
}

async function ordered(): Promise<Uuid> {
  const id = randomUuid(systemRandomness);
  const { database } = vault.open;
  await database
    .transaction()
    .execute((tx) => desires(database).order(tx, fabric.fabricId, { id, kind: "refresh" }));
  return id;
}

test("an order that was withdrawn is not waited for once more by the next process", async () => {
  const id = await ordered();
  const { database } = vault.open;
  await assert.rejects(desires(database).result(id, 0, signal), { code: "ORDER_TIMEOUT" });
  const limit = AbortSignal.timeout(2000);
  await assert.rejects(desires(database).result(id, MINUTE_MS, limit), { code: "ORDER_TIMEOUT" });
});

test("an order that ends just when its time is over has ended as it did", async () => {
  const id = await ordered();
  let isReported = false;
  const racing = vault.open.database.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      if (isReported) return result;
      isReported = true;
      await fabric.report({ orderResults: [{ orderId: id, state: "succeeded" }] });
      return result;
    },
  });
  assert.equal((await desires(racing).result(id, 0, signal)).state, "succeeded");
});
