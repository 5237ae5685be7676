import { MIB } from "@osr/base/units";

import { Site } from "../rig/site.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";
import { comparisonText, differs, pointsUnderLoad } from "./points-under-load.ts";

const POINTS_MIN = 20;
/** Points of the machine with the planted fault: enough that one of them differs. */
const FUZZY_POINTS_MIN = 3;
const DATA_DISKS_BYTES = [64 * MIB, 48 * MIB];

/** Every recovery point is, byte for byte, what the disks held while they were frozen; and the comparison can tell. */
export const fastPoints: Scenario = {
  name: "fast-points",
  summary: `at least ${POINTS_MIN} points under fio and dd, each byte-exact; a planted fuzzy cut is caught`,
  async run(context) {
    const { folder, narrator, signal } = context;
    await using site = await narrator.step("starting the site", async () =>
      Site.start(await folder.folder("site"), signal),
    );
    await exactPoints(context, site);
    await plantedFault(context, site);
    const verified = await site
      .osr(["repository", "verify"], signal)
      .then(() => "every object is sound", String);
    context.check(
      "the repository verifies with and without keys",
      verified === "every object is sound",
      verified,
    );
  },
};

async function exactPoints(context: ScenarioContext, site: Site): Promise<void> {
  const run = await pointsUnderLoad(context, site, {
    name: "exact",
    dataDisksBytes: DATA_DISKS_BYTES,
    pointsMin: POINTS_MIN,
    agentOptions: {},
  });
  const offered = run.points.filter((point) => point.offered === "yes");
  context.check(
    `at least ${POINTS_MIN} points were made under load`,
    offered.length >= POINTS_MIN,
    `${offered.length} offered of ${run.points.length}; ${run.cuts} cuts by the time of the comparison`,
  );
  const differing = run.comparisons.filter(differs);
  context.check(
    "every offered point is byte-exact",
    differing.length === 0 && run.comparisons.length === offered.length * DATA_DISKS_BYTES.length,
    differing.map(comparisonText).join("; ") ||
      `${run.comparisons.length} disks compared, all equal`,
  );
  const distinct = new Set(run.comparisons.map(({ frozenSha256 }) => frozenSha256));
  context.check(
    "the disks changed from point to point",
    distinct.size > offered.length,
    `${distinct.size} different contents`,
  );
}

async function plantedFault(context: ScenarioContext, site: Site): Promise<void> {
  const run = await pointsUnderLoad(context, site, {
    name: "fuzzy",
    dataDisksBytes: DATA_DISKS_BYTES,
    pointsMin: FUZZY_POINTS_MIN,
    agentOptions: { testFaults: { quietWindow: "unchecked", freeze: "skipped" } },
  });
  const differing = run.comparisons.filter(differs);
  context.check(
    "a planted fuzzy cut is caught by the same comparison",
    differing.length > 0,
    `${differing.length} of ${run.comparisons.length} disks differ`,
  );
}
