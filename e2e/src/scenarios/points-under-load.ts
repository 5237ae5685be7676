import { setTimeout as wait } from "node:timers/promises";

import { MINUTE_MS } from "@osr/base/units";

import { agentDisk } from "../rig/agent-program.ts";
import { type FastAgentOptions, startFastAgent } from "../rig/fast-agent.ts";
import { kernelNamesOf, startFastMachine } from "../rig/fast-rig.ts";
import type { Machine } from "../rig/machine.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import {
  type Comparison,
  type ListedPoint,
  comparePoint,
  listedPoints,
} from "../rig/repository-points.ts";
import type { Site } from "../rig/site.ts";
import { startWriters, stopWriters } from "../rig/writers.ts";
import type { ScenarioContext } from "../scenario.ts";

const POINTS_TIMEOUT_MS = 15 * MINUTE_MS;
const POLL_MS = 4000;

/** What came of a machine under load. */
export type PointsRun = {
  readonly points: readonly ListedPoint[];
  readonly comparisons: readonly Comparison[];
  readonly cuts: number;
};

export type LoadedMachine = {
  readonly name: string;
  /** As FastMachineOptions has them; all are protected. */
  readonly dataDisksBytes: readonly number[];
  /** Changes the machine before anything writes; the writers need /data1 and /data2. */
  readonly prepare?: (machine: Machine) => Promise<void>;
  readonly pointsMin: number;
  readonly agentOptions: FastAgentOptions;
};

/** Protects a fresh machine with writers in it until it has `pointsMin` points, and compares each of them. */
export async function pointsUnderLoad(
  context: ScenarioContext,
  site: Site,
  loaded: LoadedMachine,
): Promise<PointsRun> {
  const { folder, narrator, signal } = context;
  const { name, dataDisksBytes, pointsMin } = loaded;
  const disks = dataDisksBytes.map((_, index) => `data${index + 1}`);
  await using machine = await startFastMachine({
    directory: await folder.folder(name),
    dataDisksBytes,
    agentDiskPath: await agentDisk(narrator, signal),
    narrator,
    signal,
  });
  using references = await ReferenceSnapshots.attach(machine, disks, narrator);
  const kernelNames = await kernelNamesOf(machine);
  await loaded.prepare?.(machine);
  await startWriters(machine.shell);
  const machineId = await startFastAgent(machine, site, name, loaded.agentOptions);
  const listed = await narrator.step(`waiting for ${pointsMin} points (${name})`, () =>
    untilPoints(site, machineId, { pointsMin, references, context, machine }),
  );
  await stopWriters(machine.shell);
  // Cuts that were not completed when the machine's power goes are no points; those that are must be exact.
  const points = listed.filter((point) => references.cutIds.includes(point.cut));
  const comparisons = await narrator.step(
    `comparing ${points.length} points (${name})`,
    async () => {
      const all: Comparison[] = [];
      for (const point of points.filter((each) => each.offered === "yes"))
        all.push(
          ...(await comparePoint(site, point, await references.of(point.cut, signal), {
            kernelNameOf: (disk) => kernelNames.get(disk) ?? disk,
            directory: await folder.folder("points"),
            signal,
          })),
        );
      return all;
    },
  );
  return { points: listed, comparisons, cuts: references.cutIds.length };
}

async function untilPoints(
  site: Site,
  machineId: string,
  options: {
    readonly pointsMin: number;
    readonly references: ReferenceSnapshots;
    readonly context: ScenarioContext;
    readonly machine: Machine;
  },
): Promise<readonly ListedPoint[]> {
  const { pointsMin, references, context, machine } = options;
  const { narrator, signal } = context;
  const end = performance.now() + POINTS_TIMEOUT_MS;
  for (let said = ""; ;) {
    const points = await listedPoints(site, machineId, signal);
    const offered = points.filter((point) => point.offered === "yes").length;
    if (offered >= pointsMin) return points;
    const now = `${offered} points, ${references.cutIds.length} cuts, ${await agentSummary(machine)}`;
    if (now !== said) narrator.say(now);
    said = now;
    if (performance.now() > end) {
      const log = await machine.shell.run("cat /run/osr/status.json; tail -n 30 /run/agent.log");
      narrator.say(log.output);
      return points;
    }
    await wait(POLL_MS, undefined, { signal });
  }
}

/** The part of the agent's status file that is told here. */
type AgentStatus = {
  readonly state: string;
  readonly disks: readonly { readonly progress: number }[];
  readonly missedReasons: Readonly<Record<string, number>>;
  readonly health: readonly { readonly code: string }[];
};

/** What the agent says of itself, in short. */
async function agentSummary(machine: Machine): Promise<string> {
  const { code, output } = await machine.shell.run("cat /run/osr/status.json");
  if (code !== 0) return "agent starting";
  const status = JSON.parse(output) as AgentStatus;
  const shares = status.disks.map((disk) => `${Math.floor(disk.progress * 10) * 10} %`);
  const copied = status.state === "initial" ? ` (${shares.join(", ")})` : "";
  const missed = JSON.stringify(status.missedReasons);
  const health = status.health.map(({ code }) => code).join(", ");
  return `${status.state}${copied}, missed ${missed}${health === "" ? "" : `, ${health}`}`;
}

export function differs(comparison: Comparison): boolean {
  return comparison.frozenSha256 !== comparison.materialisedSha256;
}

/** A comparison, for people. */
export function comparisonText({
  point,
  disk,
  frozenSha256,
  materialisedSha256,
}: Comparison): string {
  return `point ${point.point} ${disk}: frozen ${frozenSha256}, materialised ${materialisedSha256}`;
}
