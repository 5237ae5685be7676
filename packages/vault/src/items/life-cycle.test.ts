import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type {
  InMageAzureV2ReplicationDetails,
  ReplicationProtectedItem,
  SiteRecoveryManagementClient,
} from "@azure/arm-recoveryservices-siterecovery";

import { must } from "@osr/base/assert";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { DesiredItem } from "@osr/contracts/fabric-protocol";
import type { MachineReplicationFacts } from "@osr/contracts/replication-facts";
import { type ObjectStore, listAll } from "@osr/repository/object-store";
import { temporaryStore } from "@osr/repository/testing/temporary-store";

import { FakeRecoverySite, FakeReplicaHost } from "../testing/fake-replica-host.ts";
import { clientsOf } from "../testing/official-clients.ts";
import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type TestFabric, createVault, register, testMachine } from "../testing/test-fabric.ts";
import { replicate } from "../testing/test-replication.ts";
import { GROUP, type TestVault, startTestVault } from "../testing/test-vault.ts";

const ITEM = "web01";
const SLOTS = [10, 11, 12];

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

type Life = AsyncDisposable & {
  readonly sr: SiteRecoveryManagementClient;
  readonly site: FakeRecoverySite;
  readonly store: ObjectStore;
  readonly fabric: TestFabric;
  readonly machineId: Uuid;
  /** Vault, group, fabric, container, item. */
  readonly at: readonly [string, string, string, string, string];
  item(): Promise<ReplicationProtectedItem>;
  details(): Promise<InMageAzureV2ReplicationDetails>;
  wish(): Promise<DesiredItem | undefined>;
  report(facts: Partial<MachineReplicationFacts>): Promise<void>;
  latest(slot: number): Promise<void>;
};

/** A vault with a fabric, a policy and a machine whose agent has registered. */
async function newLife(): Promise<Life> {
  await using stack = new AsyncDisposableStack();
  const { store } = stack.use(await temporaryStore());
  const site = new FakeRecoverySite();
  site.slots = SLOTS;
  const vault: TestVault = stack.use(
    await startTestVault(await postgres.newDatabase(), {
      ports: { store, replicas: new FakeReplicaHost(site) },
    }),
  );
  await createVault(vault);
  const { sr } = clientsOf(vault);
  const fabric = await register(vault, { name: "berlin" });
  const machineId = randomUuid(systemRandomness);
  const machine = testMachine(machineId, ITEM);
  await fabric.report({ machines: [machine] });
  await sr.replicationPolicies.beginCreateAndWait("vault", GROUP, "gold", {
    properties: {
      providerSpecificInput: { instanceType: "InMageAzureV2", multiVmSyncStatus: "Disable" },
    },
  });
  const at = ["vault", GROUP, "berlin", `cloud_${fabric.fabricId}`, ITEM] as const;
  const item: Life["item"] = () => sr.replicationProtectedItems.get(...at);
  const report: Life["report"] = async (facts) => {
    const whole: MachineReplicationFacts = {
      state: "protected",
      agentVersion: "1.0",
      pointsMade: 1,
      pointsMissed: 0,
      disks: [],
      health: [],
      ...facts,
    };
    await fabric.report({ machines: [{ ...machine, facts: whole }] });
  };
  const moved = stack.move();
  return {
    sr,
    site,
    store,
    fabric,
    machineId,
    at,
    item,
    details: async () =>
      (await item()).properties?.providerSpecificDetails as InMageAzureV2ReplicationDetails,
    wish: async () =>
      (await fabric.desired()).items.find(({ grant }) => grant.machineId === machineId),
    report,
    latest: (slot) =>
      report({
        newestPoint: {
          slot,
          cutId: randomUuid(systemRandomness),
          class: "crash",
          unixMs: slot * 15_000,
        },
      }),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

async function enable({ sr, at, machineId }: Life): Promise<void> {
  const [vault, group, fabric, container] = at;
  const prefix = `/subscriptions/s/resourceGroups/${group}/providers/Microsoft.RecoveryServices/vaults/${vault}`;
  await sr.replicationProtectedItems.beginCreateAndWait(...at, {
    properties: {
      policyId: `${prefix}/replicationPolicies/gold`,
      protectableItemId: `${prefix}/replicationFabrics/${fabric}/replicationProtectionContainers/${container}/replicationProtectableItems/${machineId}`,
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
}

/** Enabled, replicated, with the points of SLOTS. */
async function protectedLife(): Promise<Life> {
  const life = await newLife();
  await enable(life);
  await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), SLOTS);
  await life.latest(12);
  return life;
}

async function recoveryPoints({ sr, at }: Life): Promise<{ id: string; type: string }[]> {
  const points: { id: string; type: string }[] = [];
  for await (const point of sr.recoveryPoints.listByReplicationProtectedItems(...at))
    points.push({ id: point.id ?? "", type: point.properties?.recoveryPointType ?? "" });
  return points;
}

test("a machine is enabled: its disks get keys, its fabric learns of it, and the item tells how far it is", async () => {
  await using life = await newLife();
  await enable(life);
  const wish = must(await life.wish(), "wish");
  assert.equal(wish.isProtected, true);
  assert.equal(wish.pointIntervalSeconds, 300);
  assert.match(wish.grant.disks[0]?.dataKey ?? "", /^[0-9a-f]{64}$/);
  assert.equal((await life.item()).properties?.protectionState, "InitialReplicationPending");
  await life.report({
    state: "initial",
    disks: [
      {
        identity: "serial:a",
        name: "vda",
        sizeBytes: 2 ** 30,
        stage: "initial",
        progressPermille: 420,
        dirtyBytes: 5 * 2 ** 20,
        readBytes: 1,
        sentBytes: 2,
      },
    ],
  });
  const shown = await life.details();
  assert.equal((await life.item()).properties?.protectionState, "InitialReplicationInProgress");
  assert.equal(shown.resyncProgressPercentage, 42);
  assert.equal(shown.protectedDisks?.[0]?.sourceDataInMegaBytes, 5);
  assert.deepEqual((await life.item()).properties?.allowedOperations, [
    "RepairReplication",
    "DisableProtection",
  ]);
});

test("a machine without an agent is refused by its job, which says what to do, and can be taken back", async () => {
  await using life = await newLife();
  const { registration: _, ...bare } = testMachine(life.machineId, ITEM);
  await life.fabric.report({ machines: [bare] });
  await assert.rejects(enable(life), /has not registered/);
  assert.equal((await life.item()).properties?.protectionState, "EnablingFailed");
  assert.equal(await life.wish(), undefined);
  await life.sr.replicationProtectedItems.beginPurgeAndWait(...life.at);
  await assert.rejects(life.item(), { statusCode: 404 });
});

test("recovery points come from the storage account, newest first, with their kind", async () => {
  await using life = await protectedLife();
  const points = await recoveryPoints(life);
  assert.deepEqual(
    points.map(({ type }) => type),
    ["CrashConsistent", "AppConsistent", "CrashConsistent"],
  );
});

test("a test failover runs beside the replication, and counts when it is cleaned up", async () => {
  await using life = await protectedLife();
  const { sr, site, at } = life;
  assert.equal((await life.item()).properties?.testFailoverStateDescription, "Test recommended");
  const points = await recoveryPoints(life);
  const tested = await sr.replicationProtectedItems.beginTestFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      networkType: "NoNetworkAttachAsInput",
      providerSpecificDetails: {
        instanceType: "InMageAzureV2",
        recoveryPointId: points[1]?.id ?? "",
      },
    },
  });
  assert.equal(tested.properties?.testFailoverState, "WaitingForCompletion");
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [11],
  );
  assert.equal((await life.wish())?.isProtected, true);
  const cleaned = await sr.replicationProtectedItems.beginTestFailoverCleanupAndWait(...at, {
    properties: { comments: "all well" },
  });
  assert.equal(cleaned.properties?.testFailoverState, "None");
  assert.notEqual(cleaned.properties?.lastSuccessfulTestFailoverTime, undefined);
  assert.equal(site.replicas.size, 0);
});

test("a failover fences the source, takes the newest point, lets it be changed, and is committed", async () => {
  await using life = await protectedLife();
  const { sr, site, at } = life;
  const failed = await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, {
    properties: {
      failoverDirection: "PrimaryToRecovery",
      sourceSiteOperations: "NotRequired",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.equal(failed.properties?.protectionState, "UnplannedFailoverCommitPending");
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [12],
  );
  const wish = must(await life.wish(), "wish");
  assert.deepEqual([wish.isProtected, wish.stoppedReason], [false, "FAILED_OVER"]);
  // The source's process server comes back: its claim is refused.
  const foreign = replicate(
    life.store,
    life.fabric.vaultId,
    {
      ...wish,
      grant: {
        ...wish.grant,
        disks: wish.grant.disks.map((disk) => ({ ...disk, claimGrant: undefined })),
      },
    },
    [20],
  );
  await assert.rejects(foreign, { code: "LOG_FENCED" });
  const points = await recoveryPoints(life);
  await sr.replicationProtectedItems.beginApplyRecoveryPointAndWait(...at, {
    properties: {
      recoveryPointId: points[2]?.id ?? "",
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
  assert.deepEqual(
    [...site.replicas.values()].map(({ point }) => point.slot),
    [10],
  );
  const committed = await sr.replicationProtectedItems.beginFailoverCommitAndWait(...at);
  assert.deepEqual(committed.properties?.allowedOperations, ["DisableProtection"]);
  await assert.rejects(
    sr.replicationProtectedItems.beginApplyRecoveryPoint(...at, {
      properties: {
        recoveryPointId: points[0]?.id ?? "",
        providerSpecificDetails: { instanceType: "InMageAzureV2" },
      },
    }),
    { statusCode: 409, code: "OperationNotAllowed" },
  );
});

test("a cancelled failover deletes its machine and lets the source go on, with a comparison", async () => {
  await using life = await protectedLife();
  const { sr, site, at } = life;
  await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} });
  await sr.replicationProtectedItems.beginFailoverCancelAndWait(...at);
  assert.equal(site.replicas.size, 0);
  const wish = must(await life.wish(), "wish");
  assert.deepEqual([wish.isProtected, wish.resyncRequest], [true, 1]);
  await replicate(life.store, life.fabric.vaultId, wish, [21]);
  assert.equal((await recoveryPoints(life)).length, 4);
});

test("a failover whose machine does not start says so, and can be tried again", async () => {
  await using life = await protectedLife();
  const { sr, site, at } = life;
  site.failsNext = "no memory left";
  await assert.rejects(
    sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} }),
    /no memory left/,
  );
  assert.equal((await life.item()).properties?.protectionState, "UnplannedFailoverFailed");
  assert.equal((await life.wish())?.isProtected, false);
  await sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, { properties: {} });
  assert.equal(site.replicas.size, 1);
});

test("disabling keeps the data, or deletes all of it and says how much that was", async () => {
  await using life = await protectedLife();
  const { sr, at, store } = life;
  const names = async (): Promise<number> => {
    const all = await Array.fromAsync(listAll(store, ""));
    return all.filter(({ name }) => name.includes("/d/") || name.includes("/g/")).length;
  };
  assert.ok((await names()) > 0);
  await sr.replicationProtectedItems.beginDeleteAndWait(...at, { properties: {} });
  assert.ok((await names()) > 0);
  await enable(life);
  await sr.replicationProtectedItems.beginDeleteAndWait(...at, {
    properties: {
      replicationProviderInput: { instanceType: "InMage", replicaVmDeletionStatus: "Delete" },
    },
  });
  assert.equal(await names(), 0);
  assert.equal(await life.wish(), undefined);
});
