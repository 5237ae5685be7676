import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { clientsOf } from "./testing/official-clients.ts";
import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { GROUP, startTestVault } from "./testing/test-vault.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

test("the current clients create a vault and a policy with its failback policy, change and delete them", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  const { rs, sr } = clientsOf(vault);
  const made = await rs.vaults.beginCreateOrUpdateAndWait(GROUP, "vault", {
    location: "local",
    sku: { name: "RS0", tier: "Standard" },
    properties: {},
  });
  assert.equal(made.properties?.provisioningState, "Succeeded");
  const policy = await sr.replicationPolicies.beginCreateAndWait("vault", GROUP, "gold", {
    properties: {
      providerSpecificInput: {
        instanceType: "InMageAzureV2",
        recoveryPointThresholdInMinutes: 15,
        recoveryPointHistory: 1440,
        crashConsistentFrequencyInMinutes: 5,
        appConsistentFrequencyInMinutes: 60,
        multiVmSyncStatus: "Enable",
      },
    },
  });
  assert.equal(policy.name, "gold");
  const names: (string | undefined)[] = [];
  for await (const { name } of sr.replicationPolicies.list("vault", GROUP)) names.push(name);
  assert.deepEqual(names, ["gold", "gold-failback"]);
  const changed = await sr.replicationPolicies.beginUpdateAndWait("vault", GROUP, "gold", {
    properties: {
      replicationProviderSettings: { instanceType: "InMageAzureV2", multiVmSyncStatus: "Disable" },
    },
  });
  assert.deepEqual(changed.properties?.providerSpecificDetails, {
    instanceType: "InMageAzureV2",
    crashConsistentFrequencyInMinutes: 5,
    recoveryPointThresholdInMinutes: 15,
    recoveryPointHistory: 1440,
    appConsistentFrequencyInMinutes: 60,
    multiVmSyncStatus: "Disabled",
  });
  await sr.replicationPolicies.beginDeleteAndWait("vault", GROUP, "gold");
  await assert.rejects(sr.replicationPolicies.get("vault", GROUP, "gold"), {
    statusCode: 404,
    code: "ResourceNotFound",
  });
  await rs.vaults.beginDeleteAndWait(GROUP, "vault");
  await assert.rejects(rs.vaults.get(GROUP, "vault"), { statusCode: 404 });
});
