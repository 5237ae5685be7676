import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { OsrError } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { openDatabase } from "../database/open-database.ts";
import { FakeReplicaHost } from "../testing/fake-replica-host.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type Life, protectedLife } from "../testing/test-life.ts";
import { type TestVault, VERSION, startTestVault } from "../testing/test-vault.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";

/**
 * Where a vault that dies has done something and has not remembered it. The job engine's own test kills processes at each point; here its job is left
 * where it is, as a kill leaves it, and the next vault on the database goes on with it.
 */
const TELLING = /:(worked|committed)$|^job:(begun|run)$/;
const POLL_MS = 20;
const TEST = {
  failoverDirection: "PrimaryToRecovery",
  networkType: "NoNetworkAttachAsInput",
  providerSpecificDetails: { instanceType: "InMageAzureV2" },
};
const FAILOVER = {
  failoverDirection: "PrimaryToRecovery",
  sourceSiteOperations: "NotRequired",
  providerSpecificDetails: { instanceType: "InMageAzureV2" },
};

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

/** The next vault of the same database, account and recovery site. */
function nextVault(
  { databaseUrl, store, site }: Life,
  crashPoint: (name: string) => void,
): Promise<TestVault> {
  const replicas = new FakeReplicaHost(site);
  return startTestVault(databaseUrl, { ports: { store, replicas }, crashPoint });
}

async function ask(vault: TestVault, itemId: string, verb: string, body?: object): Promise<string> {
  const sent = body === undefined ? {} : { body: { properties: body } };
  const reply = await vault.request("POST", `${itemId}/${verb}?${VERSION}`, sent);
  assert.equal(reply.status, 202, JSON.stringify(reply.body));
  return new URL(String(reply.headers["azure-asyncoperation"])).pathname;
}

async function ended(vault: TestVault, operation: string): Promise<string> {
  for (;;) {
    const { body } = await vault.request("GET", `${operation}?${VERSION}`);
    if (body.status !== "InProgress") return body.status;
    await systemScheduler.sleep(POLL_MS);
  }
}

/** Asks for an operation and leaves its job at each telling point in turn; `undo` makes it possible again. */
async function crashEverywhere(
  life: Life,
  itemId: string,
  asked: { readonly verb: string; readonly body: object },
  undo: { readonly verb: string; readonly body?: object },
  options: {
    readonly telling?: RegExp;
    readonly check?: (vault: TestVault) => Promise<void>;
  } = {},
): Promise<number> {
  const { telling = TELLING, check } = options;
  const points: string[] = [];
  {
    await using vault = await nextVault(life, (name) => points.push(name));
    assert.equal(await ended(vault, await ask(vault, itemId, asked.verb, asked.body)), "Succeeded");
    points.splice(0, points.length, ...points.filter((name) => telling.test(name)));
    const known = [...points];
    assert.equal(await ended(vault, await ask(vault, itemId, undo.verb, undo.body)), "Succeeded");
    points.splice(0, points.length, ...new Set(known));
  }
  const todo = [...points];
  for (const point of todo) {
    const effects = life.site.effects.length;
    let operation: string;
    {
      const crashed = Promise.withResolvers<void>();
      await using vault = await nextVault(life, (name) => {
        if (name !== point) return;
        crashed.resolve();
        throw new OsrError(VAULT_ERRORS.VAULT_STOPPING, "killed");
      });
      operation = await ask(vault, itemId, asked.verb, asked.body);
      await crashed.promise;
    }
    await using vault = await nextVault(life, () => undefined);
    assert.equal(await ended(vault, operation), "Succeeded", point);
    assert.equal(life.site.replicas.size, 1, point);
    const starts = life.site.effects.slice(effects).filter((effect) => effect.startsWith("start"));
    assert.equal(starts.length, 1, `${point}: one machine was started`);
    await check?.(vault);
    assert.equal(await ended(vault, await ask(vault, itemId, undo.verb, undo.body)), "Succeeded");
    assert.equal(life.site.replicas.size, 0, point);
  }
  return todo.length;
}

test("a test failover goes on wherever its vault dies, starts one machine, and leaves none", async () => {
  await using life = await protectedLife(postgres);
  const itemId = String((await life.item()).id);
  await life.vault[Symbol.asyncDispose]();
  const asked = { verb: "testFailover", body: TEST };
  const undo = { verb: "testFailoverCleanup", body: { comments: "" } };
  assert.ok((await crashEverywhere(life, itemId, asked, undo)) >= 5);
});

test("a failover goes on wherever its vault dies, starts one machine, and can be cancelled", async () => {
  await using life = await protectedLife(postgres);
  const itemId = String((await life.item()).id);
  await life.vault[Symbol.asyncDispose]();
  const asked = { verb: "unplannedFailover", body: FAILOVER };
  assert.ok((await crashEverywhere(life, itemId, asked, { verb: "failoverCancel" })) >= 5);
});

test("a failover orders its source to shut down once wherever its vault dies, and fences it", async () => {
  await using life = await protectedLife(postgres);
  const itemId = String((await life.item()).id);
  await life.vault[Symbol.asyncDispose]();
  await using open = openDatabase(life.databaseUrl, silentLog);
  const ended = new AbortController();
  const answered = new Set<string>();
  // The configuration server, which does what it is told.
  const answering = (async (): Promise<void> => {
    while (!ended.signal.aborted) {
      const rows = await open.database
        .updateTable("fabric_order")
        .set({ state: "succeeded", ended_at: 1 })
        .where("ended_at", "is", null)
        .returning("id")
        .execute();
      for (const { id } of rows) answered.add(id);
      await systemScheduler.sleep(POLL_MS);
    }
  })();
  const asked = {
    verb: "unplannedFailover",
    body: { ...FAILOVER, sourceSiteOperations: "Required" },
  };
  const crashes = await crashEverywhere(
    life,
    itemId,
    asked,
    { verb: "failoverCancel" },
    {
      telling: /(order shut-down|ShutdownSourceMachineTask):(worked|committed|begun)$/,
      check: async ({ open: { database } }) => {
        const item = await database
          .selectFrom("protected_item")
          .select("is_fenced")
          .executeTakeFirstOrThrow();
        assert.equal(item.is_fenced, true);
      },
    },
  );
  ended.abort();
  await answering;
  assert.ok(crashes >= 3, `${crashes} crashes`);
  assert.equal(answered.size, crashes + 1, "one order for each failover");
});
