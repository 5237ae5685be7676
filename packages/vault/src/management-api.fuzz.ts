import assert from "node:assert/strict";

import * as fc from "fast-check";

import { must } from "@osr/base/assert";
import { type FuzzTarget, fuzzTarget } from "@osr/base/testing/fuzz-target";
import { FABRIC_ROUTES } from "@osr/contracts/fabric-protocol";

import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { type Life, protectedLife } from "./testing/test-life.ts";
import { GROUP, SUBSCRIPTION, VAULT_PATH, VERSION } from "./testing/test-vault.ts";

/** Requests of one input: enough that one can prepare what the next one trips over. */
const REQUESTS_MAX = 6;
const NETWORK = `${VAULT_PATH}/OpenSiteRecovery/networks/drill`;

type Operation = { readonly method: string; readonly path: string };
type Sent = {
  /** Which operation; counted round, so that a run of this many inputs meets all. */
  readonly operation: number;
  readonly name: string;
  readonly isKnown: boolean;
  readonly body: unknown;
};

/** Words that operations look for, with values that some of them take. */
const WORDS = [
  "properties",
  "location",
  "tags",
  "sku",
  "groups",
  "name",
  "policyId",
  "protectableItemId",
  "providerSpecificInput",
  "providerSpecificDetails",
  "instanceType",
  "failoverDirection",
  "networkType",
  "networkId",
  "recoveryPointId",
  "recoveryPointHistory",
  "crashConsistentFrequencyInMinutes",
  "disksToInclude",
  "diskId",
  "comments",
  "subnet",
  "gateway",
  "isIsolated",
  "reservations",
  "targetProtectionContainerId",
  "ipAddress",
  "friendlyName",
  "osType",
  "certificate",
  "customEmailAddresses",
  "recoveryAzureVMName",
  "startTime",
  "jobStatus",
] as const;

const leaf = fc.oneof(
  fc.constantFrom<unknown>(null, "", "x", -1, 0, 5, 1e300, true, [], {}),
  fc.constantFrom(
    "InMageAzureV2",
    "PrimaryToRecovery",
    "VmNetworkAsInput",
    "10.1.0.0/24",
    "Linux",
    "Microsoft Azure",
    `${VAULT_PATH}/replicationPolicies/gold`,
    NETWORK,
    "1970-01-01T00:00:00Z",
    "\u0000",
    "\ud800",
  ),
  fc.string({ unit: "binary", maxLength: 300 }),
);
const { tree: body } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie("tree"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...WORDS), tie("tree"), { maxKeys: 5 }),
  ),
}));
const requests = fc.array(
  fc.record<Sent>({
    operation: fc.nat(10_000),
    name: fc.oneof(
      fc.string({ unit: "binary", minLength: 1, maxLength: 140 }),
      fc.constantFrom("gold", "default", "00000000-0000-4000-8000-000000000000", "export", "a/b"),
    ),
    isKnown: fc.boolean(),
    body: fc.oneof({ arbitrary: fc.record({ properties: body }), weight: 3 }, body),
  }),
  { minLength: 1, maxLength: REQUESTS_MAX },
);

/** All operations of both APIs, against a vault with a machine that replicates; whatever comes, the answer is below 500. */
export const managementApiFuzz: FuzzTarget = {
  name: "management-api",
  summary:
    "requests to every operation of the vault, and to fabrics' routes, on a vault with a protected machine",
  async attempt(seed, runs) {
    await using postgres: TestPostgres = await startTestPostgres();
    await using life = await protectedLife(postgres, {
      rateLimits: { requestsPerSecond: 1e9, burst: 1e9 },
    });
    await life.vault.request("PUT", `${NETWORK}?${VERSION}`, {
      body: { properties: { subnet: "10.9.0.0/24" } },
    });
    const operations = await operationsOf(life);
    const asked = new Set<Operation>();
    // Rounds of consecutive seeds go on where the one before has ended.
    let next = (seed * runs) % operations.length;
    const property = fc.asyncProperty(requests, async (all) => {
      for (const sent of all) {
        // Every operation in turn, so that few inputs meet all; what is left to chance is the order of the rest.
        const index = sent === all[0] ? next++ : sent.operation;
        const operation = must(operations[index % operations.length], "an operation");
        asked.add(operation);
        await ask(life, operation, sent);
      }
    });
    const target = fuzzTarget(this.name, this.summary, property, { isStateful: true });
    const report = await target.attempt(seed, runs);
    assert.ok(report !== undefined || asked.size >= Math.min(runs, operations.length));
    return report;
  },
};

async function operationsOf({ vault }: Life): Promise<readonly Operation[]> {
  const { body: description } = await vault.request("GET", "/openapi.json");
  const described = Object.entries(description.paths as Record<string, object>).flatMap(
    ([path, methods]) =>
      Object.keys(methods).map((method) => ({ path, method: method.toUpperCase() })),
  );
  const ofFabrics = Object.values(FABRIC_ROUTES)
    .filter((path) => path !== FABRIC_ROUTES.desired)
    .map((path) => ({ path, method: "POST" }));
  return [...described, ...ofFabrics];
}

async function ask(life: Life, { method, path }: Operation, sent: Sent): Promise<void> {
  const names: Readonly<Record<string, string>> = {
    subscriptionId: SUBSCRIPTION,
    resourceGroupName: GROUP,
    vaultName: life.at[0],
    fabricName: life.at[2],
    protectionContainerName: life.at[3],
    ...(sent.isKnown
      ? {
          replicatedProtectedItemName: life.at[4],
          policyName: "gold",
          protectableItemName: life.machineId,
          networkName: "drill",
        }
      : {}),
  };
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, parameter: string) =>
    encodeURIComponent(names[parameter] ?? sent.name.toWellFormed()),
  );
  const hasBody = method !== "GET";
  const reply = path.startsWith("/fabric/")
    ? await life.fabric.send(method, path, sent.body)
    : await life.vault.request(method, `${filled}?${VERSION}`, hasBody ? { body: sent.body } : {});
  assert.ok(
    reply.status < 500 && (reply.status < 400 || reply.body.error?.code !== undefined),
    `${method} ${filled} ${JSON.stringify(sent.body)}: ${reply.status} ${JSON.stringify(reply.body)}`,
  );
}
