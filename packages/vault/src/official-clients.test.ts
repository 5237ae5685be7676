import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { randomUuid } from "@osr/base/uuid";

import { clientsOf, legacyClient } from "./testing/official-clients.ts";
import { createVault, register, testMachine } from "./testing/test-fabric.ts";
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

test("the current clients discover a machine, associate a policy and read jobs, events, health and alerts", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  const { sr } = clientsOf(vault);
  const site = await register(vault);
  const container = `cloud_${site.fabricId}`;
  const at = ["vault", GROUP, "fabric", container] as const;
  const { revision } = await site.desired();
  const discovering = sr.replicationProtectionContainers.beginDiscoverProtectableItemAndWait(
    ...at,
    {
      properties: { friendlyName: "web01", ipAddress: "10.0.0.5", osType: "Linux" },
    },
  );
  const wish = await site.desired(revision);
  const machine = testMachine(randomUuid(systemRandomness));
  await site.report({
    machines: [machine],
    orderResults: [{ orderId: wish.orders[0]!.id, state: "succeeded" }],
  });
  assert.equal((await discovering).name, container);
  const found = [];
  for await (const item of sr.replicationProtectableItems.listByReplicationProtectionContainers(
    ...at,
  ))
    found.push(item.properties?.friendlyName);
  assert.deepEqual(found, ["web01"]);

  const policy = await sr.replicationPolicies.beginCreateAndWait("vault", GROUP, "gold", {
    properties: {
      providerSpecificInput: { instanceType: "InMageAzureV2", multiVmSyncStatus: "Disable" },
    },
  });
  const mapping = await sr.replicationProtectionContainerMappings.beginCreateAndWait(...at, "map", {
    properties: {
      targetProtectionContainerId: "Microsoft Azure",
      policyId: policy.id!,
    },
  });
  assert.equal(mapping.properties?.state, "Paired");
  await assert.rejects(sr.replicationPolicies.beginDeleteAndWait("vault", GROUP, "gold"), {
    code: "PolicyInUse",
    statusCode: 409,
  });

  const jobs = new Set<string | undefined>();
  for await (const job of sr.replicationJobs.list("vault", GROUP))
    jobs.add(job.properties?.scenarioName);
  assert.deepEqual(
    jobs,
    new Set(["AddProtectionProfile", "AssociateProtectionProfile", "DiscoverPhysicalMachine"]),
  );
  const events = [];
  for await (const event of sr.replicationEvents.list("vault", GROUP))
    events.push(event.properties?.eventCode);
  assert.deepEqual(events, ["FABRIC_REGISTERED"]);
  const health = await sr.replicationVaultHealth.get("vault", GROUP);
  assert.equal(health.properties?.fabricsHealth?.categorizedResourceCounts?.["Normal"], 1);
  // The certificate of the tests' vault is good for a day.
  assert.deepEqual(
    health.properties?.vaultErrors?.map(({ errorCode, errorLevel }) => [errorCode, errorLevel]),
    [["CERTIFICATE_EXPIRING", "Warning"]],
  );
  const alert = await sr.replicationAlertSettings.create("vault", GROUP, "defaultAlertSetting", {
    properties: { sendToOwners: "Send", customEmailAddresses: ["a@b.c"] },
  });
  assert.equal(alert.properties?.sendToOwners, "Send");
  await sr.replicationProtectionContainerMappings.beginDeleteAndWait(...at, "map", {
    properties: {},
  });
  await sr.replicationPolicies.beginDeleteAndWait("vault", GROUP, "gold");
  await sr.replicationFabrics.beginDeleteAndWait("vault", GROUP, "fabric");
  await assert.rejects(sr.replicationFabrics.get("vault", GROUP, "fabric"), { statusCode: 404 });
});

test("a job that failed or was cancelled ends the client's waiting with its error", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  const { sr } = clientsOf(vault);
  const site = await register(vault);
  const { revision } = await site.desired();
  const at = ["vault", GROUP, "fabric"] as const;
  const refreshing = sr.replicationFabrics.beginCheckConsistencyAndWait(...at);
  const refused = assert.rejects(refreshing, /NO_DISK.*the disk is full/s);
  const wish = await site.desired(revision);
  const error = { code: "NO_DISK", message: "the disk is full", hint: "Make room." };
  await site.report({ orderResults: [{ orderId: wish.orders[0]!.id, state: "failed", error }] });
  await refused;
  const second = sr.replicationFabrics.beginCheckConsistencyAndWait(...at);
  const cancelled = assert.rejects(second, /canceled/i);
  let open: string | undefined;
  while (open === undefined)
    for await (const { name, properties } of sr.replicationJobs.list("vault", GROUP))
      if (properties?.allowedActions?.includes("Cancel") === true) open = name;
  await sr.replicationJobs.beginCancelAndWait("vault", GROUP, open);
  await cancelled;
});

test("the client of 2016 creates, reads, changes and deletes a policy, and lists fabrics and jobs", async () => {
  await using vault = await startTestVault(await postgres.newDatabase());
  await createVault(vault);
  await register(vault);
  const client = legacyClient(vault);
  const input = {
    properties: {
      providerSpecificInput: {
        instanceType: "InMageAzureV2",
        recoveryPointHistory: 1440,
        multiVmSyncStatus: "Enable",
      },
    },
  };
  await client.replicationPolicies.create("old", input);
  const made = await client.replicationPolicies.get("old");
  assert.equal(made.properties.providerSpecificDetails.recoveryPointHistory, 1440);
  const [fabric] = await client.replicationFabrics.list();
  assert.equal(fabric.properties.customDetails.instanceType, "VMware");
  const [job] = await client.replicationJobs.list();
  assert.equal(job.properties.scenarioName, "AddProtectionProfile");
  await client.replicationPolicies.deleteMethod("old");
  await assert.rejects(client.replicationPolicies.get("old"), { statusCode: 404 });
});
