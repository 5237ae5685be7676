import { readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { GIB, KIB, MIB, MINUTE_MS, SECOND_MS, formatBytes } from "@osr/base/units";

import { agentDisk } from "../rig/agent-program.ts";
import {
  fastAgentStatus,
  installFastAgent,
  newFastAgentStatus,
  restartFastAgent,
  startFastAgent,
  stopFastAgent,
} from "../rig/fast-agent.ts";
import { fastInitramfs } from "../rig/fast-initramfs.ts";
import { startFastMachine } from "../rig/fast-rig.ts";
import type { Machine } from "../rig/machine.ts";
import { NetworkLink } from "../rig/network-link.ts";
import { OwnProcessServer } from "../rig/own-process-server.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type ListedPoint, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { Site } from "../rig/site.ts";
import { SmallDisk } from "../rig/small-disk.ts";
import { toolsDisk } from "../rig/tools-disk.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";

const NAME = "outage";
const DISK_BYTES = 256 * MIB;
/** The smallest there is, so that it is full soon; what fills it is written at once. */
const CACHE_BYTES = 64 * MIB;
const STORE_BYTES = 4 * GIB;
/** The storage account keeps 64 MiB free; this much more is left to it when it is to run full. */
const STORE_ROOM_BYTES = 72 * MIB;
const CUT_MS = 45 * SECOND_MS;
const SLOW_MS = 40 * SECOND_MS;
const SLOW_BYTES_PER_SECOND = 96 * KIB;
const UPLOADS_REFUSED_MIN = 2;
/** From the end of an outage to a recovery point whose cut came after it. */
const CAUGHT_UP_MS_MAX = 2 * MINUTE_MS;
const WAIT_MS_MAX = 3 * MINUTE_MS;
const REPLICA_MS = 15 * SECOND_MS;
const POLL_MS = SECOND_MS;

type AgentStatus = {
  /** When it was written. */
  readonly unixMs: number;
  readonly state: string;
  readonly processServer: string;
  readonly pointsMissed: number;
  readonly missedReasons: Readonly<Record<string, number>>;
  readonly disks: readonly { readonly sentBytes: number; readonly lastResync?: object }[];
  readonly health: readonly { readonly code: string }[];
};

/** A machine under protection through links that can be cut. */
type Rig = {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly storeDisk: SmallDisk;
  readonly first: OwnProcessServer;
  readonly second: OwnProcessServer;
  /** Between the machine and both process servers. */
  readonly agentLink: NetworkLink;
  /** Between both process servers and the storage account. */
  readonly storeLink: NetworkLink;
  readonly machine: Machine;
  readonly machineId: string;
  readonly references: ReferenceSnapshots;
};

/** Links, caches, stores and process servers fail; replication catches up by itself, and no point is ever false. */
export const outage: Scenario = {
  name: NAME,
  summary:
    "link cut and slow, cache full, store full, process server replaced: caught up, no point false",
  async beforeOwnNetwork(narrator, signal) {
    if (process.getuid?.() !== 0)
      throw new OsrError(
        RIG_ERRORS.RIG_UNSUPPORTED,
        "it needs root: for network namespaces, and to mount a store that runs full",
      );
    await fastInitramfs(narrator, signal);
    await toolsDisk(narrator, signal);
    await agentDisk(narrator, signal);
  },
  async run(context) {
    const { folder, narrator, signal } = context;
    const directory = await folder.folder("site");
    await using stack = new AsyncDisposableStack();
    const data = join(directory, "storage-account", "data");
    const storeDisk = stack.use(await SmallDisk.mount(data, STORE_BYTES));
    const storeLink = stack.use(await NetworkLink.toProcesses());
    const site = stack.use(
      await narrator.step("starting the site", () =>
        Site.start(directory, signal, { place: storeLink.farPlace }),
      ),
    );
    const options = { cacheBytesMax: CACHE_BYTES };
    const first = stack.use(await OwnProcessServer.start(site, "first", options));
    const second = stack.use(await OwnProcessServer.start(site, "second", options));
    const agentLink = stack.use(await NetworkLink.toMachine());
    const machine = stack.use(
      await startFastMachine({
        directory: await folder.folder(NAME),
        dataDisksBytes: [DISK_BYTES],
        agentDiskPath: await agentDisk(narrator, signal),
        network: agentLink.machineNetwork,
        narrator,
        signal,
      }),
    );
    const references = stack.use(await ReferenceSnapshots.attach(machine, ["data1"], narrator));
    const processServerPorts = [first.port, second.port];
    const machineId = await startFastAgent(machine, site, NAME, { processServerPorts });
    const rig = { context, site, storeDisk, first, second, agentLink, storeLink };
    await outages({ ...rig, machine, machineId, references });
  },
};

async function outages(rig: Rig): Promise<void> {
  const { context } = rig;
  await context.narrator.step("initial replication and a first point", () => pointAfter(rig, 0));
  await startWriter(rig.machine);
  await survives(rig, "link cut", linkCut);
  await survives(rig, "slow link", slowLink);
  await survives(rig, "cache full", cacheFull);
  await survives(rig, "store full", storeFull);
  await survives(rig, "process server replaced", processServerReplaced);
  await stopFastAgent(rig.machine);
  await replicaStandsBy(rig);
  await pointsAreExact(rig);
}

/** What an outage shows while it lasts; the numbers behind it are for the reader. */
type Shown = { readonly misses: boolean; readonly detail: string };

/** Lets an outage happen, and checks that points were missed and reported, and that the next one came by itself. */
async function survives(
  rig: Rig,
  name: string,
  happen: (rig: Rig, check: ScenarioContext["check"]) => Promise<Shown>,
): Promise<void> {
  const { context, machine, references } = rig;
  const before = await fastAgentStatus<AgentStatus>(machine);
  const check: ScenarioContext["check"] = (what, holds, detail) =>
    context.check(`${name}: ${what}`, holds, detail);
  const shown = await context.narrator.step(name, () => happen(rig, check));
  const cutsThen = references.cutIds.length;
  const beganMs = performance.now();
  const point = await pointAfter(rig, cutsThen);
  const seconds = Math.round((performance.now() - beganMs) / 100) / 10;
  check(
    "replication catches up by itself",
    seconds * SECOND_MS <= CAUGHT_UP_MS_MAX,
    `point ${point.point} after ${seconds} s, at most ${CAUGHT_UP_MS_MAX / SECOND_MS} s; ${shown.detail}`,
  );
  const after = await newFastAgentStatus<AgentStatus>(machine, context.signal);
  const missed = after.pointsMissed - before.pointsMissed;
  if (shown.misses)
    check(
      "points are missed and reported",
      missed > 0,
      `${missed} missed: ${JSON.stringify(newReasons(before, after))}`,
    );
  check(
    "nothing was compared for it",
    after.disks.every(({ lastResync }) => lastResync === undefined),
    `${formatBytes((after.disks[0]?.sentBytes ?? 0) - (before.disks[0]?.sentBytes ?? 0))} sent`,
  );
}

/** Nothing arrives, nobody is told. */
async function linkCut(
  { machine, agentLink }: Rig,
  check: ScenarioContext["check"],
): Promise<Shown> {
  await agentLink.cut();
  await wait(CUT_MS);
  const { health } = await fastAgentStatus<AgentStatus>(machine);
  check(
    "the agent says what is wrong",
    health.some(({ code }) => code === "PROCESS_SERVER_UNREACHABLE"),
    codesOf(health),
  );
  await agentLink.mend();
  return { misses: true, detail: `cut for ${CUT_MS / SECOND_MS} s` };
}

async function slowLink(
  { machine, agentLink }: Rig,
  check: ScenarioContext["check"],
): Promise<Shown> {
  await agentLink.throttle(SLOW_BYTES_PER_SECOND);
  const bytesBefore = await agentLink.bytes();
  await fill(machine, 16);
  await wait(SLOW_MS);
  const bytes = (await agentLink.bytes()) - bytesBefore;
  await agentLink.unthrottle();
  const rate = `${formatBytes(bytes)} in both directions in ${SLOW_MS / SECOND_MS} s, ${formatBytes(SLOW_BYTES_PER_SECOND)} a second allowed`;
  check("little gets through", bytes > 0 && bytes < 16 * MIB, rate);
  return { misses: true, detail: rate };
}

/** The storage account is away, and the machine writes more than the cache holds. */
async function cacheFull(rig: Rig, check: ScenarioContext["check"]): Promise<Shown> {
  const { machine, first, storeLink } = rig;
  await storeLink.cut();
  await fill(machine, 96);
  const status = await untilStatus(rig, "CACHE_FULL", ({ health }) =>
    health.some(({ code }) => code === "CACHE_FULL"),
  );
  // Long enough that points are due.
  await wait(20 * SECOND_MS);
  const throttled = await first.metric("throttled_batches_total");
  const spool = await first.metric("spool_bytes");
  check(
    "the process server throttles, and its cache has an end",
    throttled > 0 && spool <= CACHE_BYTES,
    `${throttled} batches refused, ${formatBytes(spool)} of ${formatBytes(CACHE_BYTES)} in the cache`,
  );
  check("the agent says what is wrong", true, codesOf(status.health));
  const peak = await agentPeakBytes(machine);
  check("the agent's memory stays bounded", peak <= 256 * MIB, `${formatBytes(peak)} at most`);
  await storeLink.mend();
  return { misses: true, detail: `${formatBytes(spool)} were spooled` };
}

async function storeFull(rig: Rig, check: ScenarioContext["check"]): Promise<Shown> {
  const { machine, first, storeDisk, context } = rig;
  const usedBytes = await usedBytesOf(join(rig.site.directory, "storage-account", "data"));
  await storeDisk.resize(usedBytes + STORE_ROOM_BYTES);
  const errorsBefore = await first.metric("upload_errors_total");
  await fill(machine, 72);
  const end = performance.now() + WAIT_MS_MAX;
  let errors = 0;
  while (errors < UPLOADS_REFUSED_MIN && performance.now() < end) {
    await wait(POLL_MS, undefined, { signal: context.signal });
    errors = (await first.metric("upload_errors_total")) - errorsBefore;
  }
  const said = (await first.log()).split("\n").findLast((line) => line.includes("upload failed"));
  check(
    "the process server keeps what the store cannot take",
    errors >= UPLOADS_REFUSED_MIN && (await first.metric("spool_bytes")) > 0,
    `${errors} uploads refused, such as ${said?.slice(0, 400)}`,
  );
  await storeDisk.resize(STORE_BYTES);
  return { misses: false, detail: `${errors} uploads were refused` };
}

/** The first process server holds what is nowhere else, and is lost with it. */
async function processServerReplaced(rig: Rig, check: ScenarioContext["check"]): Promise<Shown> {
  const { machine, first, second, storeLink, context } = rig;
  const before = await fastAgentStatus<AgentStatus>(machine);
  await storeLink.cut();
  await fill(machine, 24);
  const end = performance.now() + WAIT_MS_MAX;
  let spool = 0;
  while (spool < 8 * MIB && performance.now() < end) {
    await wait(POLL_MS, undefined, { signal: context.signal });
    spool = await first.metric("spool_bytes");
  }
  await first.destroy();
  await storeLink.mend();
  const killedMs = performance.now();
  const address = `:${second.port}`;
  const isMoved = ({ processServer, state }: AgentStatus): boolean =>
    processServer.endsWith(address) && state === "protected";
  const status = await untilStatus(rig, "the move", isMoved);
  const seconds = Math.round((performance.now() - killedMs) / 100) / 10;
  check(
    "the machine moves to the next process server",
    status.processServer !== before.processServer,
    `from ${before.processServer} to ${status.processServer} after ${seconds} s; ${formatBytes(spool)} were lost with the spool`,
  );
  return { misses: true, detail: `moved after ${seconds} s` };
}

/** A machine that has the source's enrolment and its disks' serial numbers, and another SMBIOS UUID. */
async function replicaStandsBy(rig: Rig): Promise<void> {
  const { context, machine, site } = rig;
  const { folder, narrator, signal, check } = context;
  await using copy = await startFastMachine({
    directory: await folder.folder("replica"),
    dataDisksBytes: [DISK_BYTES],
    agentDiskPath: await agentDisk(narrator, signal),
    narrator,
    signal,
  });
  const identity = await machine.shell.must("cat /etc/osr/identity.json");
  await installFastAgent(copy, join(site.directory, "machines", NAME), {});
  await copy.shell.writeFile("/etc/osr/identity.json", Buffer.from(identity), "600");
  const objectsBefore = await objectsOf(site);
  await restartFastAgent(copy);
  const status = await untilStatus({ ...rig, machine: copy }, "the replica", () => true);
  await wait(REPLICA_MS);
  const tracing = await copy.shell.must(
    "ls /sys/kernel/tracing/instances /sys/fs/bpf | grep -c ^osr; :",
  );
  const objects = await objectsOf(site);
  check(
    "a replica tracks and sends nothing, and says so",
    status.state === "replica" && objects === objectsBefore && tracing.trim() === "0",
    `${status.state}, ${codesOf(status.health)}; ${objects} objects before and after; ${tracing.trim()} trackers`,
  );
}

async function pointsAreExact(rig: Rig): Promise<void> {
  const { context, site, machineId, references } = rig;
  const { folder, signal, narrator, check } = context;
  const points = await listedPoints(site, machineId, signal);
  const offered = points.filter((point) => point.offered === "yes");
  let compared = 0;
  const differing: string[] = [];
  await narrator.step(`comparing ${offered.length} points`, async () => {
    for (const point of offered) {
      const comparisons = await comparePoint(site, point, await references.of(point.cut, signal), {
        kernelNameOf: () => "vdc",
        directory: await folder.folder("points"),
        signal,
      });
      compared += comparisons.length;
      for (const { frozenSha256, materialisedSha256 } of comparisons)
        if (frozenSha256 !== materialisedSha256) differing.push(String(point.point));
    }
  });
  check(
    "every point that was ever offered is byte-exact",
    compared === offered.length && compared > 0 && differing.length === 0,
    differing.length === 0
      ? `${compared} points, all equal`
      : `points ${differing.join(", ")} differ`,
  );
  const verified = await site
    .osr(["repository", "verify"], signal)
    .then(() => "every object is sound", String);
  check("the repository verifies", verified === "every object is sound", verified);
}

/** The newest point whose cut is none of the first `cutsBefore`. */
async function pointAfter(rig: Rig, cutsBefore: number): Promise<ListedPoint> {
  const { context, site, machine, references, machineId } = rig;
  const end = performance.now() + WAIT_MS_MAX;
  while (performance.now() < end) {
    const fresh = new Set(references.cutIds.slice(cutsBefore));
    const points = await listedPoints(site, machineId, context.signal);
    const point = points.findLast(({ cut, offered }) => offered === "yes" && fresh.has(cut));
    if (point !== undefined) return point;
    await wait(POLL_MS, undefined, { signal: context.signal });
  }
  throw await timeout(machine, "no recovery point came");
}

async function untilStatus(
  { context, machine }: Pick<Rig, "context" | "machine">,
  what: string,
  done: (status: AgentStatus) => boolean,
): Promise<AgentStatus> {
  const end = performance.now() + WAIT_MS_MAX;
  while (performance.now() < end) {
    const { code, output } = await machine.shell.run("cat /run/osr/status.json");
    const status = code === 0 ? (JSON.parse(output) as AgentStatus) : undefined;
    if (status !== undefined && done(status)) return status;
    await wait(POLL_MS, undefined, { signal: context.signal });
  }
  throw await timeout(machine, `the agent never came to ${what}`);
}

async function timeout(machine: Machine, message: string): Promise<OsrError> {
  const log = await machine.shell.run("cat /run/osr/status.json; tail -n 30 /run/agent.log");
  return new OsrError(RIG_ERRORS.RIG_TIMEOUT, `${message}\n${log.output}`);
}

/** Most memory that the agent ever had. */
async function agentPeakBytes(machine: Machine): Promise<number> {
  const text = await machine.shell.must("grep VmHWM /proc/$(cat /run/agent.pid)/status");
  return Number(/(\d+) kB/.exec(text)?.[1]) * KIB;
}

/** Small changes all the time, so that each point is another one. */
async function startWriter(machine: Machine): Promise<void> {
  const script = `
n=0
while :; do
  n=$((n + 1))
  dd if=/dev/urandom of=/data1/file$((n % 12)) bs=16k count=$((n % 9 + 1)) 2>/dev/null
  [ $((n % 5)) = 0 ] && sync
  sleep 0.5
done`;
  await machine.shell.must(
    `cat >/run/dd.sh <<'SCRIPT'${script}\nSCRIPT\n(exec setsid sh /run/dd.sh) >/run/dd.log 2>&1 </dev/null &`,
  );
}

/** Writes so many MiB that do not shrink. */
async function fill(machine: Machine, mib: number): Promise<void> {
  await machine.shell.must(
    `dd if=/dev/urandom of=/data1/filling bs=1M count=${mib} conv=fsync 2>/dev/null`,
    2 * MINUTE_MS,
  );
}

async function usedBytesOf(folder: string): Promise<number> {
  const { blocks, bfree, bsize } = await statfs(folder);
  return (blocks - bfree) * bsize;
}

async function objectsOf(site: Site): Promise<number> {
  const data = join(site.directory, "storage-account", "data", "objects");
  const entries = await readdir(data, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).length;
}

function newReasons(before: AgentStatus, after: AgentStatus): Readonly<Record<string, number>> {
  const entries = Object.entries(after.missedReasons)
    .map(([reason, count]) => [reason, count - (before.missedReasons[reason] ?? 0)] as const)
    .filter(([, count]) => count > 0);
  return Object.fromEntries(entries);
}

function codesOf(health: AgentStatus["health"]): string {
  return health.map(({ code }) => code).join(", ") || "no code";
}
