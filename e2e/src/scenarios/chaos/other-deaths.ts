import { must } from "@osr/base/assert";

import type { ControlPlane } from "./control-plane.ts";
import type { JobPoints } from "./crash-rounds.ts";
import { configurationServerDies, postgresDies } from "./disturbance.ts";
import { PaperLife, checkRounds, newPaperMachine } from "./paper-life.ts";
import {
  CANCEL_FAILOVER,
  CHANGE_POINT,
  COMMIT,
  DELETE_REPLICA,
  DISABLE,
  DISCOVER,
  ENABLE,
  FAILOVER,
  REFRESH,
  TEST_FAILOVER,
  TEST_FAILOVER_CLEANUP,
  type Workflow,
} from "./workflows.ts";

const LIFE: readonly Workflow[] = [
  ENABLE,
  TEST_FAILOVER,
  TEST_FAILOVER_CLEANUP,
  FAILOVER,
  CHANGE_POINT,
  CANCEL_FAILOVER,
  FAILOVER,
  COMMIT,
  DISABLE,
  DELETE_REPLICA,
];
/** Those that tell the configuration server something. */
const TOLD: readonly Workflow[] = [ENABLE, FAILOVER, CANCEL_FAILOVER, DISABLE, DISCOVER, REFRESH];
/** Fake compute takes a while, so that a death finds its work under way. */
const WORK_MS = 400;
/** How far a job is when PostgreSQL dies under it, as parts of its points. */
const DEATHS = [0.1, 0.4, 0.6];
/** Jobs take some ten milliseconds, so a few may end before they are noticed. */
const LATE_SHARE_MAX = 0.3;

/** PostgreSQL is killed under each kind of job, early and late in it: the vault stays, and waits for it. */
export async function postgresDeaths(plane: ControlPlane, points: JobPoints): Promise<void> {
  const { site, host, context } = plane;
  using machine = await newPaperMachine(plane, "paper03", "10.0.2.17");
  const life = new PaperLife(plane, machine);
  const pid = await site.rolePid("vault");
  host.workMs = WORK_MS;
  for (const share of context.isShort ? DEATHS.slice(0, 1) : DEATHS)
    for (const workflow of LIFE) {
      const own = points.get(workflow.kind) ?? [];
      const point = must(own[Math.floor(own.length * share)], "a job has points");
      await life.live(workflow, postgresDies(plane, point));
    }
  host.workMs = 0;
  context.check(
    "PostgreSQL killed: the vault lives on",
    pid === (await site.rolePid("vault")),
    `process ${pid}`,
  );
  const late = life.rounds.filter(({ struckAt }) => struckAt === "job:ended").length;
  context.check(
    "PostgreSQL killed: it died under the jobs, not after them",
    late <= life.rounds.length * LATE_SHARE_MAX,
    `${late} of ${life.rounds.length} had just ended`,
  );
  checkRounds(plane, "PostgreSQL killed", life);
}

/** The configuration server is killed just before it is told something, and with it on its way. */
export async function configurationServerDeaths(plane: ControlPlane): Promise<void> {
  for (const [when, name, address] of [
    ["before", "paper04", "10.0.2.18"],
    ["after", "paper05", "10.0.2.19"],
  ] as const) {
    using machine = await newPaperMachine(plane, name, address);
    const life = new PaperLife(plane, machine);
    for (const workflow of [...LIFE, DISCOVER, REFRESH])
      await life.live(
        workflow,
        TOLD.includes(workflow) ? configurationServerDies(plane, when) : undefined,
      );
    checkRounds(plane, `configuration server killed ${when} it is told`, life);
  }
}
