import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { HOUR_MS } from "@osr/base/units";
import type { ReplicaObjection } from "@osr/contracts/replica-host";

import { FakeReplicaHost } from "../testing/fake-replica-host.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type Life, protectedLife } from "../testing/test-life.ts";
import { VAULT_PATH, VERSION } from "../testing/test-vault.ts";
import { checkFailovers } from "./failover-watch.ts";

const NETWORKS = `${VAULT_PATH}/OpenSiteRecovery/networks`;
const NO_ROOM: ReplicaObjection = {
  code: "CAPACITY_MEMORY",
  level: "error",
  message: "the replica host has no memory left",
  hint: "Give it more.",
};

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

/** A protected machine and a watch over it whose time the test moves. */
async function watched(): Promise<
  AsyncDisposable & { readonly life: Life; readonly afterHours: (hours: number) => Promise<void> }
> {
  const life = await protectedLife(postgres);
  let hours = 0;
  const ports = {
    database: life.vault.open.database,
    replicas: new FakeReplicaHost(life.site),
    clock: { unixMs: () => hours * HOUR_MS, monotonicMs: () => 0 },
    randomness: systemRandomness,
  };
  return {
    life,
    afterHours: async (more) => {
      hours += more;
      await checkFailovers(ports, new AbortController().signal);
    },
    [Symbol.asyncDispose]: () => life[Symbol.asyncDispose](),
  };
}

async function found(life: Life): Promise<readonly unknown[]> {
  const { failoverHealth, healthErrors = [] } = (await life.item()).properties ?? {};
  const failover = healthErrors.filter(({ errorCategory }) => errorCategory === "TestFailover");
  return [
    failoverHealth,
    ...failover.map(({ errorCode, errorLevel }) => `${errorCode} ${errorLevel}`),
  ];
}

async function events(life: Life): Promise<readonly unknown[]> {
  const codes: unknown[] = [];
  for await (const event of life.sr.replicationEvents.list("vault", "rg"))
    codes.push(event.properties?.eventCode);
  return codes.filter((code) => String(code).startsWith("FAILOVER_")).toReversed();
}

test("every 12 h an item tells what would be in the way of its failover, and when it is gone", async () => {
  await using under = await watched();
  const { life, afterHours } = under;
  assert.deepEqual(await found(life), ["None"]);
  await afterHours(0);
  assert.deepEqual(await found(life), ["Warning", "NETWORK_UNSET Warning"]);
  life.site.objections = [NO_ROOM];
  await afterHours(11);
  assert.deepEqual(await found(life), ["Warning", "NETWORK_UNSET Warning"]);
  await afterHours(1);
  assert.deepEqual(await found(life), [
    "Critical",
    "NETWORK_UNSET Warning",
    "CAPACITY_MEMORY Error",
  ]);
  await assert.rejects(
    life.sr.replicationProtectedItems.beginTestFailoverAndWait(...life.at, {
      properties: { providerSpecificDetails: { instanceType: "InMageAzureV2" } },
    }),
    /no memory left/,
  );
  life.site.objections = [];
  await afterHours(12);
  assert.deepEqual(await events(life), ["FAILOVER_BLOCKED", "FAILOVER_READY"]);
});

test("an item that is changed is looked at at once: a network that is gone, then one that is there", async () => {
  await using under = await watched();
  const { life, afterHours } = under;
  const choose = (name: string): Promise<unknown> =>
    life.sr.replicationProtectedItems.beginUpdateAndWait(...life.at, {
      properties: { selectedRecoveryAzureNetworkId: `/networks/${name}` },
    });
  await choose("prod");
  await afterHours(0);
  assert.deepEqual(await found(life), ["Critical", "NetworkNotFound Error"]);
  await life.vault.request("PUT", `${NETWORKS}/prod?${VERSION}`, {
    body: { properties: { subnet: "10.9.0.0/24", gateway: "10.9.0.1", isIsolated: true } },
  });
  await choose("prod");
  await afterHours(0);
  assert.deepEqual(await found(life), ["Normal"]);
});
