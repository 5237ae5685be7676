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
import type { ObjectStore } from "@osr/repository/object-store";
import { temporaryStore } from "@osr/repository/testing/temporary-store";

import type { VaultOptions } from "../vault.ts";
import { FakeRecoverySite, FakeReplicaHost } from "./fake-replica-host.ts";
import { clientsOf } from "./official-clients.ts";
import type { TestPostgres } from "./test-database.ts";
import { type TestFabric, createVault, register, testMachine } from "./test-fabric.ts";
import { replicate } from "./test-replication.ts";
import { GROUP, type TestVault, startTestVault } from "./test-vault.ts";

export const ITEM = "web01";
export const SLOTS = [10, 11, 12];

/** A vault, a fabric and a machine of it, for tests of the whole life of a protected item. */
export type Life = AsyncDisposable & {
  readonly vault: TestVault;
  readonly databaseUrl: string;
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
export async function newLife(
  postgres: TestPostgres,
  options: Pick<VaultOptions, "rateLimits"> = {},
): Promise<Life> {
  await using stack = new AsyncDisposableStack();
  const { store } = stack.use(await temporaryStore());
  const site = new FakeRecoverySite();
  site.slots = SLOTS;
  const databaseUrl = await postgres.newDatabase();
  const vault: TestVault = stack.use(
    await startTestVault(databaseUrl, {
      ...options,
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
    vault,
    databaseUrl,
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

export async function enable({ sr, at, machineId }: Life): Promise<void> {
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
export async function protectedLife(
  postgres: TestPostgres,
  options: Pick<VaultOptions, "rateLimits"> = {},
): Promise<Life> {
  const life = await newLife(postgres, options);
  await enable(life);
  await replicate(life.store, life.fabric.vaultId, must(await life.wish(), "wish"), SLOTS);
  await life.latest(12);
  return life;
}

export async function recoveryPoints({
  sr,
  at,
}: Pick<Life, "sr" | "at">): Promise<{ id: string; type: string }[]> {
  const points: { id: string; type: string }[] = [];
  for await (const point of sr.recoveryPoints.listByReplicationProtectedItems(...at))
    points.push({ id: point.id ?? "", type: point.properties?.recoveryPointType ?? "" });
  return points;
}
