import type { ControlPlane } from "./control-plane.ts";
import { vaultDiesAt } from "./disturbance.ts";
import { PaperLife, checkRounds, newPaperMachine } from "./paper-life.ts";
import {
  CANCEL_FAILOVER,
  CHANGE_POINT,
  CHECK_CONSISTENCY,
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

const CYCLES_MAX = 30;

/** The stretches of a machine's life, in order; those that may be left out are, once the vault has died at each of their points. */
const STRETCHES: readonly {
  readonly isNeeded: boolean;
  readonly workflows: readonly Workflow[];
}[] = [
  { isNeeded: true, workflows: [ENABLE] },
  { isNeeded: false, workflows: [TEST_FAILOVER, TEST_FAILOVER_CLEANUP] },
  { isNeeded: false, workflows: [FAILOVER, CHANGE_POINT, CANCEL_FAILOVER] },
  { isNeeded: true, workflows: [FAILOVER, COMMIT, DISABLE, DELETE_REPLICA] },
  { isNeeded: false, workflows: [DISCOVER] },
  { isNeeded: false, workflows: [REFRESH] },
  { isNeeded: false, workflows: [CHECK_CONSISTENCY] },
];

/** Points that jobs get to, in order, by kind of job. */
export type JobPoints = ReadonlyMap<string, readonly string[]>;
/** Those at which the vault has not died yet; those of a kind are known after its first run. */
type PointsLeft = Map<string, string[]>;

/**
 * Kills the vault at each point of each kind of job. The machine goes through its life once undisturbed, which says which points there are, and then again and
 * again with each job killed at the next one of its points, until none is left. Gives the points.
 */
export async function crashRounds(plane: ControlPlane): Promise<JobPoints> {
  const { narrator, isShort } = plane.context;
  using machine = await newPaperMachine(plane, "paper01", "10.0.2.16");
  const life = new PaperLife(plane, machine);
  const left: PointsLeft = new Map();
  await narrator.step("a life without a crash", () => cycle(plane, life, left));
  const points: JobPoints = new Map([...left].map(([kind, own]) => [kind, [...own]]));
  const cyclesMax = isShort ? 1 : CYCLES_MAX;
  for (let count = 0; count < cyclesMax && pointsOf(left) > 0; count++)
    await narrator.step(`${pointsOf(left)} points left`, () => cycle(plane, life, left));
  plane.context.check(
    "the vault was killed at every point of every job",
    pointsOf(left) === 0,
    `${life.rounds.filter(({ isDisturbed }) => isDisturbed).length} points of ${left.size} kinds of job, ${pointsOf(left)} left`,
  );
  checkRounds(plane, "vault killed", life);
  return points;
}

async function cycle(plane: ControlPlane, life: PaperLife, left: PointsLeft): Promise<void> {
  for (const { isNeeded, workflows } of STRETCHES) {
    if (!isNeeded && workflows.every(({ kind }) => left.get(kind)?.length === 0)) continue;
    for (const workflow of workflows) {
      const points = left.get(workflow.kind);
      const point = points?.shift();
      const passed = await life.live(
        workflow,
        point === undefined ? undefined : vaultDiesAt(plane, point),
      );
      if (points === undefined) left.set(workflow.kind, [...new Set(passed)]);
    }
  }
}

function pointsOf(left: PointsLeft): number {
  return [...left.values()].reduce((sum, points) => sum + points.length, 0);
}
