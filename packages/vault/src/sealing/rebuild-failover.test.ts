import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import type { Identity } from "@osr/certificates/site-authority";

import { migrate } from "../database/migrate.ts";
import { openDatabase } from "../database/open-database.ts";
import { FakeReplicaHost } from "../testing/fake-replica-host.ts";
import { clientsOf } from "../testing/official-clients.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { testFabric } from "../testing/test-fabric.ts";
import { SLOTS, protectedLife, recoveryPoints } from "../testing/test-life.ts";
import { TEST_VAULT_KEY, VAULT_PATH, VERSION, startTestVault } from "../testing/test-vault.ts";
import { rebuildVault } from "./rebuild.ts";
import { sealWaiting } from "./seal-chain.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

test("a vault whose database is gone is rebuilt from the storage account, hears its fabric again, and fails the machine over", async () => {
  await using life = await protectedLife(postgres);
  const { store, site, at, fabric } = life;
  const body = { properties: { subnet: "10.9.0.0/24" } };
  const network = `${VAULT_PATH}/OpenSiteRecovery/networks/dr?${VERSION}`;
  await life.vault.request("PUT", network, { body });
  await life.sr.replicationProtectedItems.beginTestFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      networkType: "NoNetworkAttachAsInput",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  const wish = await life.wish();
  const { signal } = new AbortController();
  const common = {
    store,
    vaultKey: TEST_VAULT_KEY,
    clock: systemClock,
    randomness: systemRandomness,
    log: silentLog,
  };
  await sealWaiting({ ...common, database: life.vault.open.database }, fabric.vaultId, signal);
  await life.vault[Symbol.asyncDispose]();

  const databaseUrl = await postgres.newDatabase();
  let authority: Identity;
  {
    await using fresh = openDatabase(databaseUrl, silentLog);
    await migrate(fresh.pool, systemClock);
    const rebuilt = await rebuildVault({ ...common, database: fresh.database }, signal);
    assert.deepEqual(
      rebuilt.vaults.map(({ epoch, rows }) => [epoch, rows["protected_item"], rows["fabric"]]),
      [[2, 1, 1]],
    );
    ({ authority } = rebuilt);
  }
  await using vault = await startTestVault(databaseUrl, {
    ports: { store, replicas: new FakeReplicaHost(site), authority },
  });
  // The configuration server's certificate is of the same authority, so it goes on where it was.
  const again = testFabric(vault, fabric, fabric.identity);
  const desired = await again.desired(1);
  assert.deepEqual(
    desired.items.map(({ grant }) => grant),
    [wish?.grant],
  );
  const { body: reply } = await again.report({ machines: [] });
  assert.equal(reply.wantsWhole, false, "the first report after a rebuild is taken as a whole one");
  assert.equal((await vault.request("GET", network)).body.properties.subnets.length, 1);

  const { sr } = clientsOf(vault);
  const points = await recoveryPoints({ sr, at });
  assert.equal(points.length, SLOTS.length);
  const failed = await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      sourceSiteOperations: "NotRequired",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.equal(failed.properties?.activeLocation, "Recovery");
  assert.equal(site.replicas.size, 2);
  const { body: replicas } = await vault.request(
    "GET",
    `${VAULT_PATH}/OpenSiteRecovery/replicas?${VERSION}`,
  );
  assert.equal(replicas.value.length, 2, "that of the lost vault's test failover, too");
});
