import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { type Life, protectedLife } from "./testing/test-life.ts";
import { GROUP, SUBSCRIPTION, VAULT_PATH, VERSION } from "./testing/test-vault.ts";

let postgres: TestPostgres;
let life: Life;
let writes: readonly Operation[];
before(async () => {
  postgres = await startTestPostgres();
  life = await protectedLife(postgres, { rateLimits: { requestsPerSecond: 1e6, burst: 1e6 } });
  const { body } = await life.vault.request("GET", "/openapi.json");
  writes = Object.entries(body.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter((method) => method !== "get" && !QUESTIONS.test(path))
      .map((method) => ({ path, method: method.toUpperCase() })),
  );
  assert.ok(writes.length > 60);
});
after(async () => {
  await life[Symbol.asyncDispose]();
  await postgres[Symbol.asyncDispose]();
});

type Operation = { readonly method: string; readonly path: string };

/** Questions that are asked with POST; they change nothing. */
const QUESTIONS = /\/(checkNameAvailability|capabilities)$/;
/** Operations that take no body, or whose fields may all be absent; what else is sent along changes nothing. */
const BODILESS =
  /\/(vaultCredentials|checkConsistency|repairReplication|remove|replicationJobs\/export|refresh)$/;

/** The path with names of what is there, or of what is nowhere. */
function filled({ path }: Operation, isKnown: boolean): string {
  const names: Readonly<Record<string, string>> = {
    subscriptionId: SUBSCRIPTION,
    resourceGroupName: GROUP,
    vaultName: life.at[0],
    fabricName: life.at[2],
    protectionContainerName: life.at[3],
    replicatedProtectedItemName: life.at[4],
    policyName: "gold",
  };
  const text = path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(
      (isKnown ? names[name] : undefined) ?? (name === "subscriptionId" ? SUBSCRIPTION : "nowhere"),
    ),
  );
  return `${text}?${VERSION}`;
}

test("no write is allowed to who may only read", async () => {
  const token = await life.vault.newToken("Site Recovery Reader");
  for (const operation of writes) {
    const path = filled(operation, true);
    const reply = await life.vault.request(operation.method, path, { token, body: {} });
    const said = `${operation.method} ${path}: ${JSON.stringify(reply.body)}`;
    assert.deepEqual([reply.status, reply.body.error?.code], [403, "AuthorizationFailed"], said);
  }
});

test("no write is taken with a token that has expired, or that is of another vault", async () => {
  const expired = await life.vault.newToken("Owner", { hours: -1 });
  const other = await life.vault.newToken("Owner", { scope: `${VAULT_PATH}2` });
  // Whoever has no good token gets 50 tries.
  for (const operation of writes.slice(0, 40)) {
    const reply = await life.vault.request(operation.method, filled(operation, true), {
      token: expired,
      body: {},
    });
    const said = `${operation.method} ${operation.path}: ${JSON.stringify(reply.body)}`;
    assert.deepEqual(
      [reply.status, reply.body.error?.code],
      [401, "ExpiredAuthenticationToken"],
      said,
    );
  }
  for (const operation of writes)
    assert.equal(
      (
        await life.vault.request(operation.method, filled(operation, true), {
          token: other,
          body: {},
        })
      ).status,
      403,
      `${operation.method} ${operation.path}`,
    );
});

test("every write refuses a body that is too large or is no JSON", async () => {
  const tooLarge = Buffer.alloc(513 * 1024, " ");
  for (const operation of writes) {
    const path = filled(operation, true);
    const said = `${operation.method} ${path}`;
    const large = await life.vault.request(operation.method, path, { raw: tooLarge });
    assert.deepEqual([large.status, large.body.error?.code], [413, "BODY_TOO_LARGE"], said);
    const broken = await life.vault.request(operation.method, path, { raw: Buffer.from("{") });
    assert.deepEqual(
      [broken.status, broken.body.error?.code],
      [400, "InvalidRequestContent"],
      said,
    );
  }
});

test("every write below what is nowhere finds nothing, and makes nothing", async () => {
  for (const operation of writes) {
    // Of a vault that is nowhere: PUT of a vault itself would make it.
    if (!operation.path.includes("{vaultName}/")) continue;
    const path = filled(operation, false);
    const reply = await life.vault.request(operation.method, path, { body: { properties: {} } });
    const said = `${operation.method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`;
    assert.deepEqual([reply.status, reply.body.error?.code], [404, "ResourceNotFound"], said);
  }
});

test("every write that takes a body refuses one of another type, in ARM's form", async () => {
  for (const operation of writes) {
    if (operation.method === "DELETE" || BODILESS.test(operation.path)) continue;
    for (const body of [[], "text", 7, { properties: "text", location: 7, tags: 7 }]) {
      const path = filled(operation, true);
      const reply = await life.vault.request(operation.method, path, { body });
      const said = `${operation.method} ${path} ${JSON.stringify(body)}: ${reply.status} ${JSON.stringify(reply.body)}`;
      assert.ok(reply.status >= 400 && reply.status < 500, said);
      assert.ok(reply.body.error.message.length > 0, said);
      assert.ok(reply.body.error.details[0].recommendedAction.length > 0, said);
      assert.ok(reply.body.error.details[0].possibleCauses.length > 0, said);
    }
  }
});

test("what an item's state does not allow is refused with what it allows", async () => {
  const { id } = await life.item();
  const point = `${id}/recoveryPoints/00000000-0000-4000-8000-000000000000`;
  const refused: readonly [verb: string, properties: object][] = [
    ["testFailoverCleanup", {}],
    ["failoverCommit", {}],
    ["failoverCancel", {}],
  ];
  for (const [verb, properties] of refused) {
    const reply = await life.vault.request("POST", `${id}/${verb}?${VERSION}`, {
      body: { properties },
    });
    const said = `${verb}: ${JSON.stringify(reply.body)}`;
    assert.deepEqual([reply.status, reply.body.error.code], [409, "OperationNotAllowed"], said);
    const [{ allowedOperations, recommendedAction }] = reply.body.error.details;
    assert.ok(allowedOperations.includes("UnplannedFailover"), said);
    assert.match(recommendedAction, /UnplannedFailover/);
  }
  // A point that is none is told before the state is looked at.
  const { status } = await life.vault.request("POST", `${id}/applyRecoveryPoint?${VERSION}`, {
    body: { properties: { recoveryPointId: point } },
  });
  assert.equal(status, 400);
});

test("fields that nobody knows are kept where ARM keeps them, and are no error elsewhere", async () => {
  const { vault } = life;
  const plan = `${VAULT_PATH}/replicationRecoveryPlans/kept?${VERSION}`;
  const properties = {
    primaryFabricId: `${VAULT_PATH}/replicationFabrics/berlin`,
    recoveryFabricId: "Microsoft Azure",
    failoverDeploymentModel: "ResourceManager",
    groups: [],
    futureField: { deep: [1, "two"] },
  };
  assert.ok((await vault.request("PUT", plan, { body: { properties } })).status < 300);
  const { body: kept } = await vault.request("GET", plan);
  assert.deepEqual(kept.properties.futureField, properties.futureField);
  const policy = `${VAULT_PATH}/replicationPolicies/kept?${VERSION}`;
  const provider = { instanceType: "InMageAzureV2", multiVmSyncStatus: "Disable", futureField: 1 };
  const put = { properties: { providerSpecificInput: provider, futureField: 1 }, futureField: 1 };
  assert.equal((await vault.request("PUT", policy, { body: put })).status, 202);
});
