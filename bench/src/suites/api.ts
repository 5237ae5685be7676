import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { VaultCredentials } from "@osr/contracts/fabric-protocol";

import { type Fleet, startFleet } from "../api/fleet.ts";
import { ManagementApi, type VaultAddress } from "../api/management-api.ts";
import { BENCH_ERRORS } from "../bench-errors.ts";
import { cpuSecondsAlone, cpuSecondsOf, proportionalBytesOf } from "../machine/process-usage.ts";
import { INFORMATION, below } from "../row.ts";
import { Site } from "../site/site.ts";
import { quantile } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const FABRICS = 4;
const POLICY = "gold";
/** Requests for protection that are under way at once while the vault is filled. */
const ENABLED_AT_ONCE = 16;
const FILLED_MS_MAX = 10 * MINUTE_MS;
const POLL_MS = 500;
const MEMORY_LOOK_MS = 2 * SECOND_MS;
const MB = 1e6;
const LIST_MS_MAX = 50;
const ITEM_MS_MAX = 15;
const CPU_PERCENT_MAX = 30;
const MEMORY_MB_MAX = 400;

/** The vault with many machines: how quickly it answers, and what their reports cost. */
export const api: Suite = {
  name: "api",
  summary:
    "1,000 protected items: times of the API, CPU of 1,000 agents' status, memory of vault and PostgreSQL",
  async run(context) {
    const { folder, narrator, programs, signal } = context;
    const directory = await folder.folder("api");
    const { osr } = await programs();
    await using site = await narrator.step("starting a site with a vault", () =>
      Site.start(join(directory, "site"), osr, { signal, controlPlane: true }),
    );
    using api = new ManagementApi(await addressOf(site));
    const fleetFolder = await folder.folder("api-fleet");
    await using fleet = await narrator.step("starting configuration servers", () =>
      fleetOf(api, fleetFolder, context),
    );
    await narrator.step("protecting the machines", () => fill(api, fleet, context));
    await measure(context, site, api, fleet);
  },
};

async function addressOf(site: Site): Promise<VaultAddress> {
  const text = await readFile(join(site.directory, "contexts.json"), "utf8");
  const { contexts } = JSON.parse(text) as { contexts: readonly VaultAddress[] };
  return must(contexts[0], "osr up has written a context");
}

async function fleetOf(api: ManagementApi, folder: string, context: SuiteContext): Promise<Fleet> {
  const fabrics = [];
  for (let number = 1; number <= FABRICS; number += 1)
    fabrics.push({
      name: `site${number}`,
      credentials: await api.post<VaultCredentials>("OpenSiteRecovery/vaultCredentials"),
    });
  return startFleet({ folder, fabrics, machinesPerFabric: context.scale.protectedItems / FABRICS });
}

/** Protects every machine through the API, as an administrator's script does, and waits until all of it is done. */
async function fill(api: ManagementApi, fleet: Fleet, context: SuiteContext): Promise<void> {
  const { signal } = context;
  const policy = { properties: { providerSpecificInput: { instanceType: "InMageAzureV2" } } };
  await api.succeeded(await api.put(`replicationPolicies/${POLICY}`, policy), signal);
  const end = performance.now() + FILLED_MS_MAX;
  for (const { name, fabricId, machines } of fleet.fabrics) {
    const list = `${containerOf(name, fabricId)}/replicationProtectableItems?$top=1000`;
    for (let known = 0; known < machines.length; await wait(POLL_MS, undefined, { signal })) {
      known = (await api.getJson<{ value: unknown[] }>(list)).value.length;
      if (performance.now() > end)
        throw new OsrError(BENCH_ERRORS.BENCH_TIMEOUT, `${known} machines are known to the vault`);
    }
  }
  const wanted = fleet.fabrics.flatMap(({ name, fabricId, machines }) =>
    machines.map((machine) => ({ ...machine, container: containerOf(name, fabricId) })),
  );
  const queue = wanted.values();
  const enable = async (): Promise<void> => {
    for (const { container, machineId, name } of queue) {
      const body = {
        properties: {
          policyId: `${api.vaultId}/replicationPolicies/${POLICY}`,
          protectableItemId: `${api.vaultId}/${container}/replicationProtectableItems/${machineId}`,
          providerSpecificDetails: {
            instanceType: "InMageAzureV2",
            targetVmSize: "Standard_D4s_v5",
          },
        },
      };
      const path = `${container}/replicationProtectedItems/${name}`;
      await api.succeeded(await api.put(path, body), signal);
    }
  };
  await Promise.all(Array.from({ length: ENABLED_AT_ONCE }, enable));
}

function containerOf(fabric: string, fabricId: string): string {
  return `replicationFabrics/${fabric}/replicationProtectionContainers/cloud_${fabricId}`;
}

async function measure(
  context: SuiteContext,
  site: Site,
  api: ManagementApi,
  fleet: Fleet,
): Promise<void> {
  const { narrator, signal, scale } = context;
  const vaultPid = must(site.rolePid("vault"), "the vault runs");
  let peak = { own: 0, below: 0, processesBelow: 0 };
  const look = (): void => {
    const now = proportionalBytesOf(vaultPid);
    if (now.own + now.below > peak.own + peak.below) peak = now;
  };
  const looking = setInterval(look, MEMORY_LOOK_MS);
  try {
    // What filling has left to do (sealing, the wishes of the fabrics) is not what reports cost.
    await wait(scale.settleMs, undefined, { signal });
    await narrator.step("status of all agents", () => reportStatusCost(context, vaultPid));
    await requireFresh(api, scale.protectedItems);
    await narrator.step("asking the API", () => reportLatencies(context, api, fleet));
    look();
  } finally {
    clearInterval(looking);
  }
  context.add({
    case: `${scale.protectedItems} protected items`,
    metric: "memory with PostgreSQL, peak",
    unit: "MB",
    ours: (peak.own + peak.below) / MB,
    rivals: {},
    goal: below("must", MEMORY_MB_MAX, `below ${MEMORY_MB_MAX} MB`),
    note: `proportional set sizes (Pss) summed, so that a shared buffer counts once: the vault's process ${(peak.own / MB).toFixed(0)} MB, PostgreSQL's ${peak.processesBelow} processes ${(peak.below / MB).toFixed(0)} MB; highest of a look every 2 s, from when the items were protected to the end of the requests`,
  });
}

/** Of the window in which nothing else is asked of the vault. */
async function reportStatusCost(
  { scale, signal, add }: SuiteContext,
  vaultPid: number,
): Promise<void> {
  const beginMs = performance.now();
  const begin = cpuSecondsOf([vaultPid]);
  const beginOfVault = cpuSecondsAlone(vaultPid);
  await wait(scale.statusWindowMs, undefined, { signal });
  const cpuSeconds = cpuSecondsOf([vaultPid]) - begin;
  const ofVault = cpuSecondsAlone(vaultPid) - beginOfVault;
  const seconds = (performance.now() - beginMs) / SECOND_MS;
  add({
    case: `${scale.protectedItems} agents, status every 15 s`,
    metric: "CPU of one core",
    unit: "%",
    ours: (100 * cpuSeconds) / seconds,
    rivals: {},
    goal: below("must", CPU_PERCENT_MAX, `below ${CPU_PERCENT_MAX} % of one core`),
    note: `user and system time of the vault's process (${ofVault.toFixed(1)} s) and of PostgreSQL (${(cpuSeconds - ofVault).toFixed(1)} s) in ${seconds.toFixed(0)} s; ${FABRICS} configuration servers over TLS, in a process of their own that is not counted; each report of an agent has a new recovery point`,
  });
}

async function reportLatencies(
  context: SuiteContext,
  api: ManagementApi,
  fleet: Fleet,
): Promise<void> {
  const times = await latencies(context, api, fleet);
  for (const [metric, values, limit] of [
    ["list, first page of 100, p95", times.list, LIST_MS_MAX],
    ["item get, p95", times.item, ITEM_MS_MAX],
  ] as const) {
    const at = (share: number): string => quantile(values, share).toFixed(1);
    context.add({
      case: `${context.scale.protectedItems} protected items`,
      metric,
      unit: "ms",
      ours: quantile(values, 0.95),
      rivals: {},
      goal: below("must", limit, `below ${limit} ms`),
      note: `${values.length} requests over HTTPS, one after the other on a kept connection, to the end of the body, while the agents' status comes in; p50 ${at(0.5)}, p99 ${at(0.99)}`,
    });
  }
  context.add({
    case: `${context.scale.protectedItems} protected items`,
    metric: "list, first page of 100, body",
    unit: "kB",
    ours: times.listBytes / 1000,
    rivals: {},
    goal: INFORMATION,
  });
}

/** Throws BENCH_WRONG where an item's machine was not heard of lately: reports that don't arrive cost nothing. */
async function requireFresh(api: ManagementApi, count: number): Promise<void> {
  type Item = {
    readonly name: string;
    readonly properties: {
      readonly replicationHealth: string;
      readonly providerSpecificDetails: {
        readonly lastHeartbeat: string;
        readonly rpoInSeconds: number;
      };
    };
  };
  const path = `replicationProtectedItems?$top=${count}`;
  const { value } = await api.getJson<{ value: readonly Item[] }>(path);
  const stale = value.filter(({ properties }) => {
    const { lastHeartbeat, rpoInSeconds } = properties.providerSpecificDetails;
    const ageMs = Date.now() - Date.parse(lastHeartbeat);
    return !(ageMs < MINUTE_MS && rpoInSeconds < 60 && properties.replicationHealth === "Normal");
  });
  if (value.length !== count || stale.length > 0)
    throw new OsrError(
      BENCH_ERRORS.BENCH_WRONG,
      `${value.length} items, of which ${stale.length} have no fresh report: ${JSON.stringify(stale[0])}`,
    );
}

async function latencies(
  { scale, signal }: SuiteContext,
  api: ManagementApi,
  fleet: Fleet,
): Promise<{ readonly list: number[]; readonly item: number[]; readonly listBytes: number }> {
  const paths = fleet.fabrics.flatMap(({ name, fabricId, machines }) =>
    machines.map((each) => `${containerOf(name, fabricId)}/replicationProtectedItems/${each.name}`),
  );
  const list: number[] = [];
  const item: number[] = [];
  let listBytes = 0;
  for (let number = 0; number < scale.apiRequests; number += 1) {
    signal.throwIfAborted();
    // Ten of one after ten of the other, so that both meet the same reports.
    const isList = Math.floor(number / 10) % 4 === 0;
    // A step that has no divisor in common with the number of items visits all of them.
    const path = isList
      ? "replicationProtectedItems"
      : must(paths[(number * 37) % paths.length], "path");
    const beginMs = performance.now();
    const body = await api.get(path);
    (isList ? list : item).push(performance.now() - beginMs);
    if (isList) listBytes = body.length;
  }
  return { list, item, listBytes };
}
