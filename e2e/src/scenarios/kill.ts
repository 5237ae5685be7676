import { setTimeout as wait } from "node:timers/promises";

import { MIB, MINUTE_MS, SECOND_MS, formatBytes } from "@osr/base/units";

import { agentDisk } from "../rig/agent-program.ts";
import { startFastAgent, stopFastAgent, restartFastAgent } from "../rig/fast-agent.ts";
import { startFastMachine } from "../rig/fast-rig.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type Comparison, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { Site } from "../rig/site.ts";
import { startWriters, stopWriters } from "../rig/writers.ts";
import type { Scenario } from "../scenario.ts";
import { type KillRig, type Phase, type Round, KillRounds } from "./kill-rounds.ts";

const NAME = "kill";
const DATA_DISKS_BYTES = [512 * MIB, 48 * MIB];
const DISKS = ["data1", "data2"];
/** Incompressible, so that initial replication lasts. */
const FILLED_MIB = 220;
const ROUNDS: readonly (readonly [Phase, number])[] = [
  ["initial", 14],
  ["load", 30],
  ["frozen", 8],
  ["resync", 10],
];
const ROUNDS_MIN = 60;
const SENT_AGAIN_MAX = 8 * MIB;
const POINTS_MIN = 6;
const POINT_TIMEOUT_MS = 3 * MINUTE_MS;
const FILL_TIMEOUT_MS = 3 * MINUTE_MS;

/** Kills the agent, the process server and the storage account at any moment: nothing is lost, false, frozen or left. */
export const kill: Scenario = {
  name: NAME,
  summary: `${ROUNDS_MIN} rounds of kill -9 of agent, process server and storage account: every point byte-exact`,
  async run(context) {
    const { folder, narrator, signal } = context;
    const seed = Number(process.env["OSR_KILL_SEED"] ?? Date.now() % 1_000_000);
    narrator.say(`seed ${seed} (OSR_KILL_SEED)`);
    context.figure("seed", seed);
    await using stack = new AsyncDisposableStack();
    const directory = await folder.folder("site");
    const site = stack.use(
      await narrator.step("starting the site", () => Site.start(directory, signal)),
    );
    const machine = stack.use(
      await startFastMachine({
        directory: await folder.folder(NAME),
        dataDisksBytes: DATA_DISKS_BYTES,
        agentDiskPath: await agentDisk(narrator, signal),
        narrator,
        signal,
      }),
    );
    const references = stack.use(await ReferenceSnapshots.attach(machine, DISKS, narrator));
    await narrator.step("filling the disk", () =>
      machine.shell.must(
        `dd if=/dev/urandom of=/data1/fill bs=1M count=${FILLED_MIB} 2>/dev/null; sync`,
        FILL_TIMEOUT_MS,
      ),
    );
    const machineId = await startFastAgent(machine, site, NAME, {});
    const rig: KillRig = { context, site, machine, references, machineId };
    const rounds = new KillRounds(rig, seed);
    await startWriters(machine.shell);
    for (const [phase, count] of ROUNDS) {
      // What comes after the initial replication is meant to meet points.
      if (phase === "load") await pointAfter(rig, 0);
      await rounds.run(phase, count);
    }
    judge(rig, rounds.done);
    await lastPoint(rig);
    await stopWriters(machine.shell);
    await nothingIsFrozenOrLeft(rig);
    await pointsAreExact(rig);
  },
};

function judge({ context }: KillRig, rounds: readonly Round[]): void {
  const { check, figure } = context;
  figure("rounds", rounds);
  const roles = Map.groupBy(rounds, ({ role }) => role);
  const counts = [...roles].map(([role, list]) => `${role} ${list.length}`).join(", ");
  check(
    `at least ${ROUNDS_MIN} rounds`,
    rounds.length >= ROUNDS_MIN,
    `${rounds.length}: ${counts}`,
  );
  const slow = rounds.filter(({ isRecovered }) => !isRecovered);
  const slowest = Math.max(...rounds.map(({ recoveredMs }) => recoveredMs));
  check(
    "replication goes on after each kill by itself",
    slow.length === 0,
    `${slow.length} did not; the slowest took ${(slowest / SECOND_MS).toFixed(1)} s`,
  );
  const most = Math.max(...rounds.map(({ sentAgainBytes }) => sentAgainBytes));
  const total = rounds.reduce((sum, { sentAgainBytes }) => sum + sentAgainBytes, 0);
  figure("sentAgainBytesMax", most);
  figure("sentAgainBytesTotal", total);
  check(
    "little is sent again for a kill",
    most <= SENT_AGAIN_MAX,
    `at most ${formatBytes(most)} for one of them, ${formatBytes(SENT_AGAIN_MAX)} allowed, ${formatBytes(total)} in all, as the agent counts it`,
  );
  const agents = rounds.filter(({ role, phase }) => role === "agent" && phase !== "resync");
  const compared = agents.filter(({ resync }) => resync !== undefined);
  figure("agentKillsWithComparison", compared.length);
  // A kill between a drain and the note of it is noticed, and answered by a comparison.
  check(
    "an agent that was killed seldom compares its disks",
    compared.length * 4 <= agents.length,
    `${compared.length} of ${agents.length}: ${compared.map(({ resync }) => resync).join(", ")}`,
  );
}

/** Replication still makes points. */
async function lastPoint(rig: KillRig): Promise<void> {
  const { context, references } = rig;
  const isMade = await pointAfter(rig, references.cutIds.length);
  context.check("points go on after all of it", isMade, `${references.cutIds.length} cuts`);
}

/** Waits for a point whose cut is none of the first `cuts`; false where none comes. */
async function pointAfter(
  { context, site, machineId, references }: KillRig,
  cuts: number,
): Promise<boolean> {
  const { signal, narrator } = context;
  const end = performance.now() + POINT_TIMEOUT_MS;
  return narrator.step("waiting for a point", async () => {
    while (performance.now() < end) {
      const fresh = new Set(references.cutIds.slice(cuts));
      const points = await listedPoints(site, machineId, signal);
      if (points.some(({ cut, offered }) => offered === "yes" && fresh.has(cut))) return true;
      await wait(2 * SECOND_MS, undefined, { signal });
    }
    return false;
  });
}

async function nothingIsFrozenOrLeft({ context, machine }: KillRig): Promise<void> {
  const { check } = context;
  const { shell } = machine;
  const writes = await shell.run(
    "for d in 1 2; do echo x >/data$d/after && sync -f /data$d/after || exit 1; done",
    20 * SECOND_MS,
  );
  check("no file system stays frozen", writes.code === 0, `exit code ${writes.code} of a write`);
  // Once more killed, then ended as an administrator does: that takes the trace instance along.
  await stopFastAgent(machine);
  const left = await shell.must(
    "ls /sys/kernel/tracing/instances /sys/fs/bpf | grep ^osr; ls /run/osr | grep dirty-state; ps | grep -v grep | grep osr-freeze-guard; :",
  );
  check("a stopped agent leaves nothing behind", left.trim() === "", left.trim() || "nothing");
  await restartFastAgent(machine);
  await stopFastAgent(machine);
}

async function pointsAreExact(rig: KillRig): Promise<void> {
  const { context, site, machineId, references, machine } = rig;
  const { folder, signal, narrator, check, figure } = context;
  const names = new Map(
    (
      await machine.shell.must(
        'for block in /sys/block/vd*; do echo "$(cat $block/serial) ${block##*/}"; done',
      )
    )
      .trim()
      .split("\n")
      .map((line) => line.split(" ") as [string, string]),
  );
  const points = await listedPoints(site, machineId, signal);
  const offered = points.filter((point) => point.offered === "yes");
  const comparisons: Comparison[] = [];
  await narrator.step(`comparing ${offered.length} points`, async () => {
    for (const point of offered)
      comparisons.push(
        ...(await comparePoint(site, point, await references.of(point.cut, signal), {
          kernelNameOf: (disk) => names.get(disk) ?? disk,
          directory: await folder.folder("points"),
          signal,
        })),
      );
  });
  const differing = comparisons.filter((each) => each.frozenSha256 !== each.materialisedSha256);
  figure("pointsOffered", offered.length);
  figure("cuts", references.cutIds.length);
  check(
    "every point that was ever offered is byte-exact",
    offered.length >= POINTS_MIN &&
      comparisons.length === offered.length * DISKS.length &&
      differing.length === 0,
    `${offered.length} points, ${comparisons.length} disks compared, ${differing.length} differ${differing.map(({ point, disk }) => ` (${point.point} ${disk})`).join("")}`,
  );
  const verified = await site
    .osr(["repository", "verify"], signal)
    .then(() => "every object is sound", String);
  check("the repository verifies", verified === "every object is sound", verified);
}
