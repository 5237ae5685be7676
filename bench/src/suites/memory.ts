import { join } from "node:path";

import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { clusteredChanges } from "../data/change-set.ts";
import { makeDiskImage } from "../data/disk-image.ts";
import { runCommand } from "../machine/command.ts";
import { MEASURED_ROLES, type MeasuredRole } from "../peak-memory.ts";
import { type Goal, INFORMATION, atMost } from "../row.ts";
import { serveNewestPoint } from "../site/nbd-export.ts";
import { Replication } from "../site/replication.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const MIB_MAX: Readonly<Partial<Record<MeasuredRole, number>>> = {
  agent: 100,
  "process server": 300,
  NBD: 320,
};

/** The largest resident set of each role over all suites of this run; where there were none, over a replication of its own. */
export const memory: Suite = {
  name: "memory",
  summary: "peak resident memory of each role during all other suites of the run",
  async run(context) {
    if (MEASURED_ROLES.some((role) => context.peaks.of(role) === undefined))
      await replicateOnce(context);
    for (const role of MEASURED_ROLES) report(context, role);
  },
};

function report({ add, peaks }: SuiteContext, role: MeasuredRole): void {
  const peak = peaks.of(role);
  if (peak === undefined)
    throw new OsrError(BENCH_ERRORS.BENCH_WRONG, `the memory of ${role} was never looked at`);
  const mibMax = MIB_MAX[role];
  const goal: Goal =
    mibMax === undefined ? INFORMATION : atMost("must", mibMax, `at most ${mibMax} MiB`);
  add({
    case: role,
    metric: "peak resident memory",
    unit: "MiB",
    ours: peak.bytes / MIB,
    rivals: {},
    goal,
    note: `VmHWM, highest in ${peak.suite}`,
  });
}

/** First copy, a delta, and the whole disk read from the export. */
async function replicateOnce(context: SuiteContext): Promise<void> {
  const { folder, scale, signal, narrator } = context;
  const directory = await folder.folder("memory");
  const imagePath = join(directory, "disk.raw");
  await narrator.step("making the disk image", () => makeDiskImage(imagePath, scale, signal));
  const suite = memory.name;
  await using replication = await Replication.prepare({
    context,
    suite,
    directory,
    imagePath,
    access: "cached",
  });
  await narrator.step("first copy", () => replication.firstCopy());
  const changes = clusteredChanges({
    seed: "1",
    rangeBytes: scale.diskBytes,
    scale: scale.changeScale,
  });
  await narrator.step("clustered changes", () => replication.delta(changes));
  await replication.endAgent();
  await using served = await serveNewestPoint(context, suite, replication, join(directory, "nbd"));
  await runCommand("nbdcopy", [served.uri, "null:"], { timeoutMs: 10 * MINUTE_MS, signal });
}
