import { join } from "node:path";

import { GIB, MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { FREEZE_MS_MAX } from "@osr/mobility-service/quiet-instant";

import { makeExt4 } from "../data/disk-image.ts";
import { type LoadKind, fioLoad, pgbenchLoad } from "../freeze/load.ts";
import { attachLoop, mountDevice } from "../machine/loop-device.ts";
import { INFORMATION, below } from "../row.ts";
import { Agent, type MadePoint } from "../site/agent.ts";
import { Site } from "../site/site.ts";
import { median, quantile } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const MEDIAN_MS_MAX = 50;
const COPY_MS_MAX = 5 * MINUTE_MS;
const POINT_MS_MAX = 30 * SECOND_MS;
const POLL_MS = 200;

/** How long whoever writes has to wait for a recovery point. */
export const freeze: Suite = {
  name: "freeze",
  summary:
    "how long an ext4 file system is frozen for a recovery point, under fio and under pgbench",
  async run(context) {
    for (const load of [fioLoad, pgbenchLoad]) await underLoad(context, load);
  },
};

async function underLoad(context: SuiteContext, kind: LoadKind): Promise<void> {
  const { folder, scale, signal, narrator } = context;
  const programs = await context.programs();
  const directory = await folder.folder(`freeze-${kind.name}`);
  const imagePath = join(directory, "disk.raw");
  await makeExt4(imagePath, scale.isSmall ? 384 * MIB : GIB, signal);
  // In this order they are undone: the load before the mount, the agent before the site.
  await using site = await Site.start(join(directory, "site"), programs.osr, {
    signal,
    controlPlane: false,
  });
  await using loop = await attachLoop(imagePath, { access: "cached", signal });
  const mountPoint = await folder.folder(`mount-${kind.name}`);
  await using _ = await mountDevice(loop.path, mountPoint, signal);
  await using load = await narrator.step(`starting ${kind.description}`, () =>
    kind.start({ folder: mountPoint, scale, signal }),
  );
  const enrolment = await site.enrol("machine", 15);
  await using agent = await Agent.start({
    enrolment,
    diskName: loop.name,
    signal,
    program: programs.frequentPoints,
  });
  const points = await narrator.step(`${scale.freezePoints} points under ${kind.name}`, () =>
    agent.until(
      `${scale.freezePoints} recovery points under ${kind.name}`,
      COPY_MS_MAX + scale.freezePoints * POINT_MS_MAX,
      () => {
        load.assertRuns();
        const made = agent.points();
        return made.length >= scale.freezePoints ? made : undefined;
      },
      POLL_MS,
    ),
  );
  context.peaks.look("agent", freeze.name, agent.pid);
  context.peaks.look("process server", freeze.name, site.rolePid("process-server"));
  context.peaks.look("storage account", freeze.name, site.rolePid("storage-account"));
  report(context, kind, points, agent.missedPoints());
}

function report(
  { add }: SuiteContext,
  kind: LoadKind,
  points: readonly MadePoint[],
  missed: readonly string[],
): void {
  const frozenMs = points.map((point) => point.frozenMs);
  const shared = { case: `ext4 under ${kind.name}`, unit: "ms", rivals: {} } as const;
  add({
    ...shared,
    metric: "frozen, median",
    ours: median(frozenMs),
    goal: below("must", MEDIAN_MS_MAX, `under ${MEDIAN_MS_MAX} ms`),
    note: `${points.length} points; load: ${kind.description}; from the begin of the freeze to the proof`,
  });
  add({
    ...shared,
    metric: "frozen, p99",
    ours: quantile(frozenMs, 0.99),
    runs: frozenMs,
    goal: below("must", FREEZE_MS_MAX, `under FREEZE_MS_MAX, ${FREEZE_MS_MAX} ms`),
  });
  add({
    case: shared.case,
    metric: "points missed meanwhile",
    unit: "points",
    ours: missed.length,
    rivals: {},
    goal: INFORMATION,
    ...(missed.length === 0 ? {} : { note: missed.slice(0, 3).join("; ").slice(0, 300) }),
  });
}
