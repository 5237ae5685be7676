import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { MINUTE_MS, SECOND_MS, formatBytes, formatDuration } from "@osr/base/units";
import { progressLine } from "@osr/cli/progress-line";

import { DEBIAN_AGENT_LOG } from "../rig/debian-agent.ts";
import { DEBIAN_DISKS, type DebianMachine, startDebianMachine } from "../rig/debian-rig.ts";
import { enrolDebian } from "../rig/enrolled-debian.ts";
import { untilAgent } from "../rig/guest-agent.ts";
import { Ledger, missingRows, rowRangesOf } from "../rig/ledger.ts";
import type { Narrator } from "../rig/narrator.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type ListedPoint, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import type { RunFolder } from "../rig/run-folder.ts";
import { Site } from "../rig/site.ts";
import type { Evidence } from "./evidence.ts";
import { enableReplication } from "./protection.ts";
import { type TestFailover, firstPage, startTestFailover } from "./test-failover.ts";

const ITEM = "web01";
const CLIENTS = 2;
const POINT_INTERVAL_SECONDS = 15;
/** Commits that a point must have before it, so that losing some would show. */
const ACKNOWLEDGED_MIN = 100;
const INITIAL_TIMEOUT_MS = 30 * MINUTE_MS;
/** An emulated machine may be slow, but the initial replication of one that runs never stands still for this long. */
const STALLED_MS = 2 * MINUTE_MS;
const POINT_TIMEOUT_MS = 3 * MINUTE_MS;
const ANSWER_TIMEOUT_MS = 5 * MINUTE_MS;
const AMCHECK_TIMEOUT_MS = 3 * MINUTE_MS;
const STATUS_FILE = "/run/osr/status.json";
const KERNEL_NAMES: Readonly<Record<string, string>> = { root: "vda", data: "vdb" };

export type MainJobContext = {
  readonly narrator: Narrator;
  readonly folder: RunFolder;
  readonly signal: AbortSignal;
  /** Holds what runs; whoever owns it decides when it ends. */
  readonly stack: AsyncDisposableStack;
};

/** What is still running after the job. */
export type RunningJob = {
  readonly evidence: Evidence;
  readonly site: Site;
  readonly source: DebianMachine;
  readonly failover: TestFailover;
};

type LastCut = { readonly cutId: string; readonly frozenMs: number; readonly heldMs: number };

/** The part of the agent's status that the job reads; packages/mobility-service, mobility-status.ts. */
type AgentStatus = {
  readonly state: string;
  readonly lastCut?: LastCut;
  readonly disks: readonly {
    readonly sizeBytes: number;
    readonly dirtyBytes: number;
    readonly readBytes: number;
    readonly sentBytes: number;
  }[];
};

/**
 * The main job: protects a running Debian machine with a database on its second disk, replicates it while it is written to,
 * makes a recovery point, boots the machine from it in an isolated network, and measures what became of its data.
 */
export async function runMainJob(context: MainJobContext): Promise<RunningJob> {
  const begin = performance.now();
  const protection = await protectSource(context);
  const { narrator, signal, stack } = context;
  const { site, source, chosen } = protection;
  const requested = performance.now();
  narrator.say(`test failover to recovery point ${chosen.point}`);
  const failover = stack.use(
    await startTestFailover({ site, item: ITEM, point: chosen.cut, signal }),
  );
  await firstPage(failover, "/", ANSWER_TIMEOUT_MS, signal);
  const secondsToFirstAnswer = seconds(performance.now() - requested);
  narrator.say(`the failed-over machine answers HTTP after ${secondsToFirstAnswer} s`);
  const proof = await proveFailover(context, protection, failover);
  const totalSeconds = seconds(performance.now() - begin);
  return { evidence: { ...proof, secondsToFirstAnswer, totalSeconds }, site, source, failover };
}

/** The source while it is protected, and the recovery point that the failover will use. */
type Protection = {
  readonly site: Site;
  readonly source: DebianMachine;
  readonly references: ReferenceSnapshots;
  readonly ledger: Ledger;
  readonly machineId: string;
  readonly bootBefore: string;
  readonly chosen: ListedPoint;
  readonly status: AgentStatus;
  readonly lastCut: LastCut;
};

async function protectSource(context: MainJobContext): Promise<Protection> {
  const { narrator, folder, signal, stack } = context;
  const site = stack.use(
    await narrator.step(
      "starting the site: storage account, vault, configuration server, process server",
      async () => Site.start(await folder.folder("site"), signal, { withVault: true }),
    ),
  );
  const directory = await folder.folder("source");
  const source = stack.use(await startDebianMachine({ directory, narrator, signal }));
  const references = stack.use(
    await ReferenceSnapshots.attach(source.machine, DEBIAN_DISKS, narrator),
  );
  const ledger = stack.use(await Ledger.start(source.machine, CLIENTS));
  narrator.say(`${CLIENTS} clients are writing to its database`);
  const bootBefore = bootOf(await source.page("/cgi-bin/status", signal));
  await enrolDebian(source.machine, site, { name: ITEM, hasHook: true });
  const machineId = await enableReplication(site, {
    item: ITEM,
    pointIntervalSeconds: POINT_INTERVAL_SECONDS,
    narrator,
    signal,
  });
  await initialReplication(source, narrator, signal);
  const { chosen, lastCut, status } = await narrator.step(
    "waiting for a recovery point in the storage account",
    () => provenPoint({ site, source, machineId, references, ledger, signal }),
  );
  return { site, source, references, ledger, machineId, bootBefore, chosen, status, lastCut };
}

async function proveFailover(
  context: MainJobContext,
  protection: Protection,
  failover: TestFailover,
): Promise<Omit<Evidence, "secondsToFirstAnswer" | "totalSeconds">> {
  const { narrator, folder, signal } = context;
  const { site, source, references, ledger, chosen, status, lastCut, bootBefore } = protection;
  const rows = await narrator.step("reading its database", () => databaseRows(failover, signal));
  const rowsAfterFailover = rows.reduce((total, { first, last }) => total + last - first + 1, 0);
  const amcheck = await narrator.step("checking its database with pg_amcheck", async () =>
    (await failover.page("/cgi-bin/amcheck", AMCHECK_TIMEOUT_MS)).trim(),
  );
  const sourceStatus = await source.page("/cgi-bin/status", signal);
  const disks = await narrator.step("comparing both disks with what was frozen", async () =>
    comparePoint(site, chosen, await references.of(chosen.cut, signal), {
      kernelNameOf: (disk) => must(KERNEL_NAMES[disk], `disk ${disk} has a kernel name`),
      directory: await folder.folder("materialised"),
      signal,
    }),
  );
  const acknowledged = ledger.before(references.frozenMonotonicMs(chosen.cut));
  const stored = (await site.osr(["repository", "verify"], signal)) as { bytes: number };
  return {
    acknowledgedRows: acknowledged.length,
    missingRows: missingRows(acknowledged, rows).length,
    rowsAfterFailover,
    amcheck,
    disks: disks.map(({ disk, frozenSha256, materialisedSha256 }) => ({
      name: disk,
      frozenSha256,
      materialisedSha256,
    })),
    frozenMs: lastCut.frozenMs,
    heldMs: lastCut.heldMs,
    bytesRead: sum(status, "readBytes"),
    bytesSent: sum(status, "sentBytes"),
    bytesStored: stored.bytes,
    sourceKeptRunning:
      bootOf(sourceStatus) === bootBefore && rowsOf(sourceStatus) > rowsAfterFailover,
  };
}

/** Narrates the initial replication until the agent says that the machine is protected. */
async function initialReplication(
  source: DebianMachine,
  narrator: Narrator,
  signal: AbortSignal,
): Promise<void> {
  const line = progressLine("initial replication", systemClock);
  let said = -Infinity;
  const standsStill = stillness(STALLED_MS);
  await untilAgent(source.machine.shell, {
    statusFile: STATUS_FILE,
    logCommand: DEBIAN_AGENT_LOG,
    what: "the initial replication",
    timeoutMs: INITIAL_TIMEOUT_MS,
    signal,
    done: (fields) => {
      const status = fields as AgentStatus;
      const total = status.disks.reduce((bytes, disk) => bytes + disk.sizeBytes, 0);
      const dirty = sum(status, "dirtyBytes");
      if (standsStill(total === 0 ? Infinity : dirty))
        throw new OsrError(
          RIG_ERRORS.RIG_TIMEOUT,
          `the initial replication has stood still for ${formatDuration(STALLED_MS)}: ${line.text(total - dirty, total)}`,
        );
      if (performance.now() - said > 3 * SECOND_MS && total > 0) {
        said = performance.now();
        narrator.say(line.text(total - dirty, total));
      }
      return status.state === "protected";
    },
  });
  narrator.say("protected");
}

/** Tells, given what is left each time, whether that has not become less for `limitMs`. */
function stillness(limitMs: number): (left: number) => boolean {
  let least = Infinity;
  let sinceMs = performance.now();
  return (left) => {
    if (left < least) {
      least = left;
      sinceMs = performance.now();
    }
    return performance.now() - sinceMs > limitMs;
  };
}

type ProvenPoint = {
  readonly chosen: ListedPoint;
  readonly lastCut: LastCut;
  /** Of the agent, just after the cut. */
  readonly status: AgentStatus;
};

/**
 * The newest point in the storage account that has a reference, enough acknowledged commits before it, and a cut that the
 * agent's status was seen to tell of.
 */
async function provenPoint(options: {
  readonly site: Site;
  readonly source: DebianMachine;
  readonly machineId: string;
  readonly references: ReferenceSnapshots;
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
}): Promise<ProvenPoint> {
  const { site, source, machineId, references, ledger, signal } = options;
  const end = performance.now() + POINT_TIMEOUT_MS;
  // The agent tells of its newest cut only, and a point comes to the storage account some time after its cut.
  const told = new Map<string, { readonly lastCut: LastCut; readonly status: AgentStatus }>();
  while (performance.now() < end) {
    const status = await agentStatus(source);
    if (status.lastCut !== undefined && !told.has(status.lastCut.cutId))
      told.set(status.lastCut.cutId, { lastCut: status.lastCut, status });
    const points = await listedPoints(site, machineId, signal);
    const chosen = points.findLast(
      ({ cut, offered }) =>
        offered === "yes" &&
        told.has(cut) &&
        references.cutIds.includes(cut) &&
        ledger.before(references.frozenMonotonicMs(cut)).length >= ACKNOWLEDGED_MIN,
    );
    if (chosen !== undefined)
      return { chosen, ...must(told.get(chosen.cut), "the agent told of the cut") };
    await wait(SECOND_MS, undefined, { signal });
  }
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, "no recovery point came");
}

async function agentStatus(source: DebianMachine): Promise<AgentStatus> {
  return JSON.parse(await source.machine.shell.must(`cat ${STATUS_FILE}`)) as AgentStatus;
}

async function databaseRows(
  failover: TestFailover,
  signal: AbortSignal,
): Promise<ReturnType<typeof rowRangesOf>> {
  const end = performance.now() + ANSWER_TIMEOUT_MS;
  for (;;) {
    const page = await firstPage(failover, "/cgi-bin/rows", ANSWER_TIMEOUT_MS, signal);
    try {
      return rowRangesOf(page);
    } catch (error) {
      // The HTTP service is up before the database.
      if (performance.now() > end) throw error;
    }
    await wait(SECOND_MS, undefined, { signal });
  }
}

function sum(status: AgentStatus, field: "dirtyBytes" | "readBytes" | "sentBytes"): number {
  return status.disks.reduce((total, disk) => total + disk[field], 0);
}

function bootOf(page: string): string {
  return must(/^boot (\S+)$/m.exec(page)?.[1], "the status page names the boot");
}

function rowsOf(page: string): number {
  return Number(must(/^rows (\d+)$/m.exec(page)?.[1], "the status page counts rows"));
}

function seconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}

/** The evidence for a person. */
export function evidenceLines(evidence: Evidence): readonly string[] {
  const { disks, frozenMs, heldMs } = evidence;
  const equal = disks.filter((disk) => disk.frozenSha256 === disk.materialisedSha256).length;
  return [
    `acknowledged commits before the tag   ${evidence.acknowledgedRows}, missing ${evidence.missingRows}`,
    `rows after failover                   ${evidence.rowsAfterFailover}`,
    `pg_amcheck                            ${evidence.amcheck}`,
    `disks byte-exact                      ${equal} of ${disks.length}`,
    `frozen                                ${frozenMs.toFixed(1)} ms (and ${heldMs.toFixed(1)} ms held by the rig)`,
    `read, sent, stored                    ${formatBytes(evidence.bytesRead)}, ${formatBytes(evidence.bytesSent)}, ${formatBytes(evidence.bytesStored)}`,
    `failover to first HTTP answer         ${evidence.secondsToFirstAnswer} s`,
    `the source kept running               ${evidence.sourceKeptRunning ? "yes" : "no"}`,
    `in all                                ${evidence.totalSeconds} s`,
  ];
}
