import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { RecoveryServicesClient } from "@azure/arm-recoveryservices";
import { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { type TestPostgres, startTestPostgres } from "./testing/test-database.ts";
import { GROUP, SUBSCRIPTION, type TestVault, startTestVault } from "./testing/test-vault.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

/** Microsoft's clients as their users construct them: an endpoint, a CA, a credential. */
function clientsOf(vault: TestVault): {
  rs: RecoveryServicesClient;
  sr: SiteRecoveryManagementClient;
} {
  const credential = {
    getToken: () =>
      Promise.resolve({ token: vault.token, expiresOnTimestamp: Date.now() + 3600e3 }),
  };
  const options = {
    endpoint: vault.url,
    tlsOptions: { ca: vault.authorityPem },
    credentialScopes: "https://vault.local/.default",
    retryOptions: { maxRetries: 0 },
  };
  return {
    rs: new RecoveryServicesClient(credential, SUBSCRIPTION, options),
    sr: new SiteRecoveryManagementClient(credential, SUBSCRIPTION, options),
  };
}

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
