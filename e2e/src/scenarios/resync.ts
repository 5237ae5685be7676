import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { GIB, MINUTE_MS, SECOND_MS, formatBytes } from "@osr/base/units";

import { agentDisk } from "../rig/agent-program.ts";
import {
  installFastAgent,
  newFastAgentStatus,
  restartFastAgent,
  startFastAgent,
  stopFastAgent,
} from "../rig/fast-agent.ts";
import { startFastMachine } from "../rig/fast-rig.ts";
import type { Machine } from "../rig/machine.ts";
import { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import { type ListedPoint, comparePoint, listedPoints } from "../rig/repository-points.ts";
import { RIG_ERRORS } from "../rig/rig-errors.ts";
import { Site } from "../rig/site.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";

const DISK_BYTES = 2 * GIB;
const BLOCKS = 200;
/** Of a changed block beside its content: the header of its record. */
const RECORD_BYTES_MAX = 128;
/** What a reboot of the machine writes by itself when it mounts the disk, and what batches and tags take. */
const SLACK_BYTES = 256 * 1024;
const POINT_TIMEOUT_MS = 6 * MINUTE_MS;
const READY_TIMEOUT_MS = 2 * MINUTE_MS;
const NAME = "resync";

type AgentStatus = {
  readonly unixMs: number;
  readonly disks: readonly {
    readonly sentBytes: number;
    readonly lastResync?: { readonly reason: string; readonly differingBytes: number };
  }[];
};

/** A machine under protection, and what is needed to look at its points. */
type Protected = {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly machine: Machine;
  readonly references: ReferenceSnapshots;
  readonly machineId: string;
  readonly kernelName: string;
};

/** What changed while nobody tracked it is found by comparing with the log, and little else is sent. */
export const resync: Scenario = {
  name: "resync",
  summary: `${BLOCKS} blocks that change under a stopped agent, and a reboot: compared, not copied again`,
  async run(context) {
    const { folder, narrator, signal } = context;
    await using site = await narrator.step("starting the site", async () =>
      Site.start(await folder.folder("site"), signal),
    );
    await using machine = await startFastMachine({
      directory: await folder.folder(NAME),
      dataDisksBytes: [DISK_BYTES],
      agentDiskPath: await agentDisk(narrator, signal),
      narrator,
      signal,
    });
    using references = await ReferenceSnapshots.attach(machine, ["data1"], narrator);
    const kernelName = await unmountedDisk(machine);
    const machineId = await startFastAgent(machine, site, NAME, {});
    const state = { context, site, machine, references, machineId, kernelName };
    await narrator.step("initial replication and a first point", () => pointAfter(state, 0));

    await stopFastAgent(machine);
    await changeBlocks(machine, kernelName);
    const cutsBefore = references.cutIds.length;
    await restartFastAgent(machine);
    await resynced(state, "under a stopped agent", "AGENT_RESTARTED", cutsBefore);

    const cutsThen = references.cutIds.length;
    await machine.reset();
    await machine.shell.ready(READY_TIMEOUT_MS, signal);
    await unmountedDisk(machine);
    await changeBlocks(machine, kernelName);
    await installFastAgent(machine, join(site.directory, "machines", NAME), {});
    await restartFastAgent(machine);
    await resynced(state, "over a reboot", "MACHINE_REBOOTED", cutsThen);
  },
};

/** Waits for a point after the resync, and checks what was sent and what the point holds. */
async function resynced(
  state: Protected,
  when: string,
  reason: string,
  cutsBefore: number,
): Promise<void> {
  const { context, site, machine, references, kernelName } = state;
  const { narrator, folder, signal, check } = context;
  const point = await narrator.step(`resync of changes ${when}, and a point`, () =>
    pointAfter(state, cutsBefore),
  );
  const status = await newFastAgentStatus<AgentStatus>(machine, signal);
  const { sentBytes = NaN, lastResync } = status.disks[0] ?? {};
  const sentMax = BLOCKS * (BLOCK_BYTES + RECORD_BYTES_MAX) + SLACK_BYTES;
  check(
    `changes ${when}: the reason is told`,
    lastResync?.reason === reason,
    String(lastResync?.reason),
  );
  check(
    `changes ${when}: every changed block is found`,
    (lastResync?.differingBytes ?? 0) >= BLOCKS * BLOCK_BYTES,
    `${formatBytes(lastResync?.differingBytes ?? 0)} differ, ${formatBytes(BLOCKS * BLOCK_BYTES)} were changed on purpose`,
  );
  check(
    `changes ${when}: they are sent, and little more`,
    sentBytes >= BLOCKS * BLOCK_BYTES && sentBytes <= sentMax,
    `${sentBytes} bytes sent, ${BLOCKS * BLOCK_BYTES} in changed blocks, at most ${sentMax} allowed`,
  );
  const comparisons = await comparePoint(site, point, await references.of(point.cut, signal), {
    kernelNameOf: () => kernelName,
    directory: await folder.folder("points"),
    signal,
  });
  const differing = comparisons.filter((each) => each.frozenSha256 !== each.materialisedSha256);
  check(
    `changes ${when}: the next point is byte-exact`,
    comparisons.length === 1 && differing.length === 0,
    `${comparisons.length} disk compared, ${differing.length} differ`,
  );
}

/** The newest point whose cut is none of the first `cutsBefore`. */
async function pointAfter(state: Protected, cutsBefore: number): Promise<ListedPoint> {
  const { context, site, machine, references, machineId } = state;
  const end = performance.now() + POINT_TIMEOUT_MS;
  while (performance.now() < end) {
    const fresh = new Set(references.cutIds.slice(cutsBefore));
    const points = await listedPoints(site, machineId, context.signal);
    const point = points.findLast(({ cut, offered }) => offered === "yes" && fresh.has(cut));
    if (point !== undefined) return point;
    await wait(SECOND_MS, undefined, { signal: context.signal });
  }
  const log = await machine.shell.run("cat /run/osr/status.json; tail -n 30 /run/agent.log");
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `no recovery point came\n${log.output}`);
}

/** Unmounts the data disk, so that only the blocks of the scenario change; gives the kernel's name of it. */
async function unmountedDisk(machine: Machine): Promise<string> {
  const name = await machine.shell.must(
    "umount /data1; for block in /sys/block/vd*; do [ $(cat $block/serial) = data1 ] && echo ${block##*/}; done; :",
  );
  return name.trim();
}

/** Writes blocks all over the disk, past the page cache. */
async function changeBlocks(machine: Machine, kernelName: string): Promise<void> {
  const stride = Math.floor(DISK_BYTES / BLOCK_BYTES / BLOCKS);
  await machine.shell.must(
    `n=0; while [ $n -lt ${BLOCKS} ]; do dd if=/dev/urandom of=/dev/${kernelName} bs=4k count=1 seek=$((n * ${stride} + 77)) conv=notrunc 2>/dev/null || exit 1; n=$((n + 1)); done; sync`,
    2 * MINUTE_MS,
  );
}
