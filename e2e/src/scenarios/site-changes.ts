import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import type { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { agentCommand } from "../rig/agent-command.ts";
import { agentDisk } from "../rig/agent-program.ts";
import { AssignedProcessServer } from "../rig/assigned-process-server.ts";
import { fastAgentStatus, restartFastAgent } from "../rig/fast-agent.ts";
import { kernelNamesOf, startFastMachine } from "../rig/fast-rig.ts";
import type { Machine } from "../rig/machine.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type ListedPoint, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { HOOK_DEVICE } from "../rig/serial-ports.ts";
import { Site } from "../rig/site.ts";
import { RESOURCE_GROUP, VAULT, vaultClients } from "../rig/vault-clients.ts";
import { startWriters, stopWriters } from "../rig/writers.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";

const POLICY = "gold";
const CONFIGURATION = "/etc/osr/mobility-service.json";
const DISKS = ["data1", "data2"];
const DISK_BYTES = [64 * MIB, 48 * MIB];
const WAIT_MS_MAX = 6 * MINUTE_MS;
const POLL_MS = 2 * SECOND_MS;
const SILENT_SECONDS = 45;

/** The parts of the agent's status file that are looked at. */
type AgentStatus = {
  readonly state: string;
  readonly processServer: string;
  readonly disks: readonly {
    readonly name: string;
    readonly identity: string;
    readonly stage: string;
    readonly lastResync?: { readonly reason: string; readonly differingBytes: number };
  }[];
};

type World = {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly sr: SiteRecoveryManagementClient;
  readonly machine: Machine;
  readonly machineId: string;
  readonly references: ReferenceSnapshots;
};

/** What may change while a machine is protected costs neither a resync nor a wrong point: its process server, its disks. */
export const siteChanges: Scenario = {
  name: "site-changes",
  summary:
    "a machine moves to another process server, a disk is left out and taken in, and every point is byte-exact",
  async run(context) {
    const { folder, narrator, signal } = context;
    await using site = await narrator.step("starting the site with its vault", async () =>
      Site.start(await folder.folder("site"), signal, { withVault: true }),
    );
    await shortenSilence(site);
    await using machine = await startFastMachine({
      directory: await folder.folder("m"),
      dataDisksBytes: DISK_BYTES,
      agentDiskPath: await agentDisk(narrator, signal),
      narrator,
      signal,
    });
    using references = await ReferenceSnapshots.attach(machine, DISKS, narrator);
    await startWriters(machine.shell);
    const machineId = await enrol(machine, site);
    const { siteRecovery: sr } = vaultClients(site);
    const world: World = { context, site, sr, machine, machineId, references };
    await protect(world);
    await moves(world);
    await disks(world);
    await stopWriters(machine.shell);
    const verified = await site
      .osr(["repository", "verify"], signal)
      .then(() => "every object is sound", String);
    context.check("the repository verifies", verified === "every object is sound", verified);
  },
};

/** A process server that has fallen silent is left sooner than after the quarter of an hour of the default. */
async function shortenSilence(site: Site): Promise<void> {
  const file = join(site.directory, "configuration-server", "config.json");
  const configuration = JSON.parse(await readFile(file, "utf8")) as object;
  await writeFile(
    file,
    JSON.stringify({ ...configuration, processServerSilentSeconds: SILENT_SECONDS }),
  );
  // It is started again, and reads the file.
  const pid = await site.rolePid("configuration-server");
  process.kill(must(pid, "the configuration server runs"), "SIGKILL");
}

async function enrol(machine: Machine, site: Site): Promise<string> {
  const { shell } = machine;
  await shell.must("mkdir -p /etc/osr /run/osr");
  await shell.writeFile("/etc/osr/token", await readFile(await site.enrolmentToken("fast")), "600");
  await shell.writeFile(
    CONFIGURATION,
    Buffer.from(JSON.stringify({ hookDevice: HOOK_DEVICE })),
    "600",
  );
  const said = await shell.must(
    `${agentCommand("node", "/agent")} enrol --token /etc/osr/token --config ${CONFIGURATION}`,
    2 * MINUTE_MS,
  );
  await restartFastAgent(machine);
  return must(/enrolled as (\S+)/.exec(said)?.[1], "the agent says its id");
}

async function protect(world: World): Promise<void> {
  const { context, site, sr } = world;
  await sr.replicationPolicies.beginCreateAndWait(VAULT, RESOURCE_GROUP, POLICY, {
    properties: {
      providerSpecificInput: {
        instanceType: "InMageAzureV2",
        crashConsistentFrequencyInMinutes: 0.25,
        multiVmSyncStatus: "Disable",
      },
    },
  });
  const [name] = await until(world, "the machine is known", async () => {
    const machines = (await site.manage(["fabric", "machines"])) as { readonly name: string }[];
    return machines.length === 1 ? machines.map((each) => each.name) : undefined;
  });
  await site.manage(["item", "enable", must(name, "a name"), "--policy", POLICY], context.signal);
  await exactPoint(world, "in the beginning", 2);
}

async function moves(world: World): Promise<void> {
  const { context, site, sr } = world;
  const before = await agentStatus(world);
  await using other = await AssignedProcessServer.start(site, "ps2");
  const fabric = must(
    (await Array.fromAsync(sr.replicationFabrics.list(VAULT, RESOURCE_GROUP)))[0]?.name,
    "a fabric",
  );
  const source = await until(world, "the vault knows of both process servers", async () => {
    const servers = await processServers(sr, fabric);
    return servers.includes(other.id) ? servers.find((id) => id !== other.id) : undefined;
  });
  const elsewhere = ({ processServer }: AgentStatus): Promise<AgentStatus> =>
    until(world, `the machine leaves ${processServer}`, async () => {
      const status = await agentStatus(world);
      return status.processServer === processServer ? undefined : status;
    });
  await sr.replicationFabrics.beginReassociateGatewayAndWait(VAULT, RESOURCE_GROUP, fabric, {
    properties: {
      containerName: "",
      sourceProcessServerId: source,
      targetProcessServerId: other.id,
      updateType: "SystemLevel",
    },
  });
  const moved = await elsewhere(before);
  await exactPoint(world, "after the move on request", 2);
  other.kill();
  const back = await elsewhere(moved);
  context.check(
    "the machine moves on request, and by itself when its process server falls silent",
    moved.processServer !== before.processServer && back.processServer === before.processServer,
    `${before.processServer} → ${moved.processServer} → ${back.processServer}`,
  );
  await exactPoint(world, "after the loss of a process server", 2);
  noResync(context, "without a resync", await agentStatus(world));
}

async function disks(world: World): Promise<void> {
  const { context, site } = world;
  const item = must(
    ((await site.manage(["item", "list"])) as { readonly name: string }[])[0]?.name,
    "an item",
  );
  const { disks: known } = await agentStatus(world);
  const left = must(known[1], "a second disk");
  await site.manage(["item", "remove-disks", item, left.name]);
  await until(world, "the disk is left out", async () =>
    (await agentStatus(world)).disks.length === 1 ? true : undefined,
  );
  await exactPoint(world, "without the disk", 1);
  noResync(context, "the other disk is not touched", await agentStatus(world));
  await site.manage(["item", "add-disks", item, left.identity]);
  // Until it is compared, points are made without it.
  await until(world, "the disk is taken in again and compared", async () => {
    const { disks: now } = await agentStatus(world);
    return now.length === 2 && now.every(({ stage }) => stage === "delta") ? true : undefined;
  });
  await exactPoint(world, "with the disk again", 2);
  const { disks: after } = await agentStatus(world);
  const returned = after.find(({ identity }) => identity === left.identity);
  context.check(
    "only the disk that was left out is compared",
    returned?.lastResync?.reason === "DISK_CHANGED" &&
      after.every((disk) => disk === returned || disk.lastResync === undefined),
    JSON.stringify(after.map(({ name, lastResync }) => ({ name, lastResync }))),
  );
}

function noResync(context: ScenarioContext, check: string, { disks: all }: AgentStatus): void {
  const resyncs = all.filter(({ lastResync }) => lastResync !== undefined);
  context.check(check, resyncs.length === 0, JSON.stringify(resyncs.map(({ name }) => name)));
}

/** Waits for a point of `count` disks that is cut after now, and holds each of them against what it was while it was frozen. */
async function exactPoint(world: World, when: string, count: number): Promise<void> {
  const { context, site, machineId, references } = world;
  const { signal, folder } = context;
  const seen = new Set(references.cutIds);
  const point = await until(
    world,
    `a point ${when}`,
    async (): Promise<ListedPoint | undefined> => {
      const points = await listedPoints(site, machineId, signal);
      return points.find(
        ({ cut, offered }) =>
          offered === "yes" && references.cutIds.includes(cut) && !seen.has(cut),
      );
    },
  );
  const kernelNames = await kernelNamesOf(world.machine);
  const frozen = await references.of(point.cut, signal);
  const { disks: now } = await agentStatus(world);
  const compared = frozen.filter(({ disk }) =>
    now.some(({ name }) => name === kernelNames.get(disk)),
  );
  const comparisons = await comparePoint(site, point, compared, {
    kernelNameOf: (disk) => kernelNames.get(disk) ?? disk,
    directory: await folder.folder("points"),
    signal,
  });
  const equal = comparisons.filter((one) => one.frozenSha256 === one.materialisedSha256);
  context.check(
    `a point ${when} is byte-exact`,
    equal.length === count && comparisons.length === count,
    `${equal.length} of ${comparisons.length} disks equal, ${count} expected`,
  );
}

async function processServers(
  sr: SiteRecoveryManagementClient,
  fabric: string,
): Promise<readonly string[]> {
  const { properties } = await sr.replicationFabrics.get(VAULT, RESOURCE_GROUP, fabric);
  const details = properties?.customDetails as
    | { readonly processServers?: readonly { readonly id?: string }[] }
    | undefined;
  return (details?.processServers ?? []).flatMap(({ id }) => (id === undefined ? [] : [id]));
}

async function agentStatus({ machine }: World): Promise<AgentStatus> {
  return await fastAgentStatus<AgentStatus>(machine);
}

async function until<T>(
  world: Pick<World, "context" | "machine">,
  what: string,
  look: () => Promise<T | undefined>,
): Promise<T> {
  const { narrator, signal } = world.context;
  return await narrator.step(`waiting until: ${what}`, async () => {
    const end = performance.now() + WAIT_MS_MAX;
    while (performance.now() < end) {
      const found = await look();
      if (found !== undefined) return found;
      await wait(POLL_MS, undefined, { signal });
    }
    const log = await world.machine.shell.run(
      "cat /run/osr/status.json; tail -n 20 /run/agent.log",
    );
    throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `waited for: ${what}\n${log.output.slice(-4000)}`);
  });
}
