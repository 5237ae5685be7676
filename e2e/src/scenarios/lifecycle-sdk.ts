import { setTimeout as wait } from "node:timers/promises";

import type {
  InMageAzureV2ReplicationDetails,
  RecoveryPoint,
  ReplicationProtectedItem,
  SiteRecoveryManagementClient,
} from "@azure/arm-recoveryservices-siterecovery";

import { must } from "@osr/base/assert";
import { OsrError, messageOf } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { machinePage } from "../main-job/test-failover.ts";
import { startDebianMachine } from "../rig/debian-rig.ts";
import { enrolDebian } from "../rig/enrolled-debian.ts";
import { Ledger } from "../rig/ledger.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { Site } from "../rig/site.ts";
import { RESOURCE_GROUP, VAULT, vaultClients } from "../rig/vault-clients.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";

const ITEM = "web01";
const POLICY = "gold";
/** They write to its database all the time, so that every point has more rows than the one before. */
const CLIENTS = 1;
const POINTS_MIN = 3;
const REPLICATED_MS_MAX = 12 * MINUTE_MS;
const ANSWER_MS_MAX = 6 * MINUTE_MS;
const POLL_MS = 2 * SECOND_MS;

type Address = [string, string, string, string, string];

/** A site under way, and the machine's place in the vault. */
type Life = {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly sr: SiteRecoveryManagementClient;
  readonly at: Address;
};

/** Microsoft's clients, unchanged, take a machine through everything that can happen to it. */
export const lifecycleSdk: Scenario = {
  name: "lifecycle-sdk",
  summary: "Microsoft's JS clients take a Debian machine from discovery to a committed failover",
  async run(context) {
    const { folder, narrator, signal } = context;
    await using site = await narrator.step("starting the site with its vault", async () =>
      Site.start(await folder.folder("site"), signal, { withVault: true }),
    );
    const { recoveryServices, siteRecovery: sr } = vaultClients(site);
    await step(context, sr, "create a vault", () =>
      recoveryServices.vaults.beginCreateOrUpdateAndWait(RESOURCE_GROUP, VAULT, {
        location: "local",
        sku: { name: "RS0", tier: "Standard" },
        properties: {},
      }),
    );
    const directory = await folder.folder("source");
    await using source = await startDebianMachine({ directory, narrator, signal });
    using ledger = await Ledger.start(source.machine, CLIENTS);
    await enrolDebian(source.machine, site, { name: ITEM, hasHook: false });
    const { fabric, container } = await place(sr);
    const at: Address = [VAULT, RESOURCE_GROUP, fabric, container, ITEM];
    const life: Life = { context, site, sr, at };
    // A machine of the recovery site outlives the site, so a step that fails must not leave it running.
    await using _ = { [Symbol.asyncDispose]: () => deleteMachines(site) };
    await prepare(life);
    await protect(life);
    await testFailover(life);
    await failOver(life);
    await disable(life);
    const written = ledger.before(Infinity).length;
    context.check("its database was written to all the time", written > 0, `${written} commits`);
  },
};

async function place(
  sr: SiteRecoveryManagementClient,
): Promise<{ readonly fabric: string; readonly container: string }> {
  const fabrics = await Array.fromAsync(sr.replicationFabrics.list(VAULT, RESOURCE_GROUP));
  const fabric = must(fabrics[0]?.name, "a fabric has registered");
  const containers = await Array.fromAsync(
    sr.replicationProtectionContainers.listByReplicationFabrics(VAULT, RESOURCE_GROUP, fabric),
  );
  return { fabric, container: must(containers[0]?.name, "the fabric has a container") };
}

async function prepare({ context, sr, at }: Life): Promise<void> {
  const [vault, group, fabric, container] = at;
  await step(context, sr, "discover a physical machine", () =>
    sr.replicationProtectionContainers.beginDiscoverProtectableItemAndWait(
      vault,
      group,
      fabric,
      container,
      { properties: { friendlyName: "pc01", ipAddress: "192.0.2.10", osType: "Linux" } },
    ),
  );
  await step(context, sr, "create a policy", () =>
    sr.replicationPolicies.beginCreateAndWait(vault, group, POLICY, {
      properties: {
        providerSpecificInput: {
          instanceType: "InMageAzureV2",
          crashConsistentFrequencyInMinutes: 0.25,
          appConsistentFrequencyInMinutes: 0,
          recoveryPointHistory: 1440,
          recoveryPointThresholdInMinutes: 15,
          multiVmSyncStatus: "Disable",
        },
      },
    }),
  );
  const policy = await sr.replicationPolicies.get(vault, group, POLICY);
  await step(context, sr, "associate it with the site", () =>
    sr.replicationProtectionContainerMappings.beginCreateAndWait(
      vault,
      group,
      fabric,
      container,
      POLICY,
      {
        properties: {
          targetProtectionContainerId: "Microsoft Azure",
          policyId: must(policy.id, "id"),
        },
      },
    ),
  );
}

async function protect({ context, sr, at }: Life): Promise<void> {
  const [vault, group, fabric, container] = at;
  const machine = await until(context, "the machine is a protectable item", MINUTE_MS, async () => {
    const items = await Array.fromAsync(
      sr.replicationProtectableItems.listByReplicationProtectionContainers(
        vault,
        group,
        fabric,
        container,
      ),
    );
    // The discovered one has no agent.
    return items.find(({ properties }) => properties?.friendlyName !== "pc01");
  });
  const policy = await sr.replicationPolicies.get(vault, group, POLICY);
  await step(context, sr, "enable replication", () =>
    sr.replicationProtectedItems.beginCreateAndWait(...at, {
      properties: {
        policyId: must(policy.id, "id"),
        protectableItemId: must(machine.id, "id"),
        providerSpecificDetails: { instanceType: "InMageAzureV2" },
      },
    }),
  );
  const states = new Set<string>();
  await until(context, "initial replication", REPLICATED_MS_MAX, async () => {
    const item = await sr.replicationProtectedItems.get(...at);
    const state = item.properties?.protectionState ?? "";
    const percent = detailsOf(item).resyncProgressPercentage ?? 0;
    if (!states.has(`${state} ${percent}`)) context.narrator.say(`${state}, ${percent} %`);
    states.add(`${state} ${percent}`);
    return state === "Protected" ? item : undefined;
  });
  context.check(
    "initial replication is watched",
    [...states].some((state) => state.startsWith("InitialReplicationInProgress")),
    [...states].join("; "),
  );
  const points = await until(context, "recovery points", REPLICATED_MS_MAX, async () => {
    const all = await pointsOf(sr, at);
    return all.length >= POINTS_MIN ? all : undefined;
  });
  context.check(
    "recovery points are listed, newest first",
    points.every((point, n) => n === 0 || timeOf(point) < timeOf(points[n - 1])),
    points.map(({ properties }) => properties?.recoveryPointTime?.toISOString()).join(", "),
  );
}

async function testFailover({ context, sr, at }: Life): Promise<void> {
  const points = await pointsOf(sr, at);
  await step(context, sr, "test failover", () =>
    sr.replicationProtectedItems.beginTestFailoverAndWait(...at, {
      properties: {
        failoverDirection: "PrimaryToRecovery",
        networkType: "NoNetworkAttachAsInput",
        providerSpecificDetails: {
          instanceType: "InMageAzureV2",
          recoveryPointId: must(points[0]?.id, "id"),
        },
      },
    }),
  );
  const item = await sr.replicationProtectedItems.get(...at);
  const network = extensionOf(item).testReplica?.network;
  const page = await answer(context, must(network, "the test has a network"));
  context.check("the tested machine answers with its database", /^rows \d+$/m.test(page), page);
  context.check(
    "replication goes on meanwhile",
    item.properties?.protectionState === "Protected" &&
      item.properties.testFailoverState === "WaitingForCompletion",
    `${item.properties?.protectionState}, ${item.properties?.testFailoverState}`,
  );
  await step(context, sr, "test failover cleanup", () =>
    sr.replicationProtectedItems.beginTestFailoverCleanupAndWait(...at, {
      properties: { comments: "the database was there" },
    }),
  );
}

async function failOver({ context, site, sr, at }: Life): Promise<void> {
  await site.manage([
    "network",
    "create",
    "recovery",
    "--subnet",
    "10.0.2.0/24",
    "--gateway",
    "10.0.2.1",
    "--isolated",
  ]);
  await step(context, sr, "choose the network of the recovery site", () =>
    sr.replicationProtectedItems.beginUpdateAndWait(...at, {
      properties: { selectedRecoveryAzureNetworkId: "recovery" },
    }),
  );
  await step(context, sr, "failover", () =>
    sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, {
      properties: {
        failoverDirection: "PrimaryToRecovery",
        sourceSiteOperations: "NotRequired",
        providerSpecificDetails: { instanceType: "InMageAzureV2" },
      },
    }),
  );
  const failed = await sr.replicationProtectedItems.get(...at);
  const first = await answer(context, must(extensionOf(failed).replica?.network, "network"));
  context.check(
    "the failed-over machine answers with its database",
    /^rows \d+$/m.test(first),
    first,
  );
  const points = await pointsOf(sr, at);
  await step(context, sr, "change the recovery point", () =>
    sr.replicationProtectedItems.beginApplyRecoveryPointAndWait(...at, {
      properties: {
        recoveryPointId: must(points.at(-1)?.id, "id"),
        providerSpecificDetails: { instanceType: "InMageAzureV2" },
      },
    }),
  );
  const changed = await sr.replicationProtectedItems.get(...at);
  const second = await answer(context, must(extensionOf(changed).replica?.network, "network"));
  context.check(
    "the machine runs from the earlier point",
    rowsOf(second) < rowsOf(first) && rowsOf(second) > 0,
    `${rowsOf(second)} rows, ${rowsOf(first)} before`,
  );
  await step(context, sr, "commit", () =>
    sr.replicationProtectedItems.beginFailoverCommitAndWait(...at),
  );
  const committed = await sr.replicationProtectedItems.get(...at);
  const allowed = committed.properties?.allowedOperations ?? [];
  context.check(
    "after the commit only disabling is left",
    allowed.join() === "DisableProtection",
    allowed.join(),
  );
}

async function disable({ context, site, sr, at }: Life): Promise<void> {
  const { replicaId = "" } =
    extensionOf(await sr.replicationProtectedItems.get(...at)).replica ?? {};
  await step(context, sr, "disable", () =>
    sr.replicationProtectedItems.beginDeleteAndWait(...at, { properties: {} }),
  );
  const gone = await sr.replicationProtectedItems.get(...at).then(
    () => "still there",
    (error: unknown) => messageOf(error),
  );
  context.check("the item is gone", gone !== "still there", gone.slice(0, 200));
  const left = await machinesOf(site);
  context.check("its machine runs on", left.includes(replicaId), left.join());
  await site.manage(["replica", "delete", replicaId]);
  await until(context, "the machine is deleted", MINUTE_MS, async () =>
    (await machinesOf(site)).length === 0 ? true : undefined,
  );
}

/** Deletes what runs at the recovery site, whatever its item has come to. Does nothing where nothing runs. */
async function deleteMachines(site: Site): Promise<void> {
  if ((await machinesOf(site)).length === 0) return;
  // Refused where there is no test, and then there is nothing to clean up.
  await site.manage(["item", "test-failover-cleanup", ITEM]).catch(() => undefined);
  await site.manage(["item", "disable", ITEM]).catch(() => undefined);
  for (const machine of await machinesOf(site)) await site.manage(["replica", "delete", machine]);
}

/** Ids of the machines that run at the recovery site. */
async function machinesOf(site: Site): Promise<readonly string[]> {
  const machines = (await site.manage(["replica", "list"])) as readonly { readonly name: string }[];
  return machines.map(({ name }) => name);
}

/** Does one step and keeps the job that it made, with tasks and times. */
async function step(
  context: ScenarioContext,
  sr: SiteRecoveryManagementClient,
  name: string,
  work: () => Promise<unknown>,
): Promise<void> {
  const begin = performance.now();
  const failure = await context.narrator.step(name, () =>
    work().then(
      () => undefined,
      (error: unknown) => messageOf(error),
    ),
  );
  const seconds = Math.round((performance.now() - begin) / 100) / 10;
  const jobs = await Array.fromAsync(sr.replicationJobs.list(VAULT, RESOURCE_GROUP)).catch(
    () => [],
  );
  const { name: job, properties } = jobs[0] ?? {};
  const tasks = (properties?.tasks ?? []).map((task) => ({
    name: task.friendlyName,
    state: task.state,
    started: task.startTime,
    ended: task.endTime,
  }));
  context.figure(name, {
    seconds,
    job,
    scenario: properties?.scenarioName,
    state: properties?.state,
    tasks,
  });
  context.check(name, failure === undefined, failure ?? `${seconds} s`);
  if (failure !== undefined)
    throw new OsrError(RIG_ERRORS.RIG_COMMAND_FAILED, `${name}: ${failure}`);
}

async function until<T>(
  { narrator, signal }: ScenarioContext,
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined>,
): Promise<T> {
  return await narrator.step(what, async () => {
    for (const end = performance.now() + timeoutMs; performance.now() < end;) {
      const found = await look();
      if (found !== undefined) return found;
      await wait(POLL_MS, undefined, { signal });
    }
    throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `waited ${timeoutMs} ms for: ${what}`);
  });
}

/** The status page of the machine in a network, once its database answers. */
async function answer(context: ScenarioContext, network: string): Promise<string> {
  return await until(context, "the machine answers", ANSWER_MS_MAX, async () => {
    const page = await machinePage(network, "/cgi-bin/status", context.signal).catch(() => "");
    return /^rows \d+$/m.test(page) ? page : undefined;
  });
}

async function pointsOf(
  sr: SiteRecoveryManagementClient,
  at: Address,
): Promise<readonly RecoveryPoint[]> {
  return await Array.fromAsync(sr.recoveryPoints.listByReplicationProtectedItems(...at));
}

function timeOf(point: RecoveryPoint | undefined): number {
  return point?.properties?.recoveryPointTime?.getTime() ?? 0;
}

function rowsOf(page: string): number {
  return Number(/^rows (\d+)$/m.exec(page)?.[1] ?? 0);
}

function detailsOf(item: ReplicationProtectedItem): InMageAzureV2ReplicationDetails {
  return item.properties?.providerSpecificDetails as InMageAzureV2ReplicationDetails;
}

type Extension = {
  readonly replica?: { readonly network?: string; readonly replicaId?: string } | null;
  readonly testReplica?: { readonly network?: string } | null;
};

/** What the vault tells beyond ARM. */
function extensionOf(item: ReplicationProtectedItem): Extension {
  const details = detailsOf(item) as unknown as { readonly openSiteRecovery?: Extension };
  return details.openSiteRecovery ?? {};
}
