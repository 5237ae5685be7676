import { OsrError, messageOf } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import type { PaperMachine } from "../../rig/paper-machine.ts";
import { RIG_ERRORS } from "../../rig/rig-errors.ts";
import type { Job } from "../../rig/vault-api.ts";
import { type ControlPlane, until } from "./control-plane.ts";
import type { Disturbance } from "./disturbance.ts";
import { type SideEffects, countSideEffects } from "./side-effects.ts";
import type { Workflow } from "./workflows.ts";

const ENDED_MS_MAX = 2 * MINUTE_MS;
/** What a configuration server is told may take it so long to keep. */
const SETTLED_MS_MAX = 30 * SECOND_MS;

/** One job that was asked for once, and what came of it. */
export type Round = {
  readonly workflow: string;
  readonly disturbance: string;
  readonly isDisturbed: boolean;
  /** The last point that the job had got to by then, where that is known. */
  readonly struckAt?: string;
  /** From the disturbance, or else from the request, to the end of the job. */
  readonly finishedSeconds: number;
  readonly state: string;
  /** What is not as it should be: `started: 2, not 1`. */
  readonly wrong: readonly string[];
  /** What the job has changed, as it was counted. */
  readonly counted: Partial<SideEffects>;
};

/** Asks once for a job, disturbs it, and counts what the world has of it in the end. `passed`: the points that the job got to. */
export async function disturbedRound(
  plane: ControlPlane,
  machine: PaperMachine,
  workflow: Workflow,
  disturbance: Disturbance = { name: "undisturbed" },
): Promise<{ readonly round: Round; readonly passed: readonly string[] }> {
  const { api, crash } = plane;
  const asked = await workflow.ask(plane, machine);
  const before = await countSideEffects(plane, machine);
  const known = new Set((await api.jobs()).map(({ id }) => id));
  await crash.clear();
  const wrong: string[] = [];
  await disturbance.before?.();
  const reply = await api.attempt(asked);
  if (reply !== undefined && reply.status !== 202)
    throw new OsrError(
      RIG_ERRORS.RIG_COMMAND_FAILED,
      `${workflow.kind}: ${reply.status} ${JSON.stringify(reply.body)}`,
    );
  const struckAt = await disturbance.after?.().catch((error: unknown) => {
    wrong.push(messageOf(error));
    return undefined;
  });
  const begin = performance.now();
  const job = await endedJob(plane, workflow, known);
  const finishedSeconds = seconds(performance.now() - begin);
  const expected = { ...before, ...workflow.effects(before), jobs: before.jobs + 1 };
  const after = await settled(plane, machine, expected);
  for (const task of job.tasks)
    if (!["Succeeded", "Other"].includes(task.state))
      wrong.push(`task ${task.name} is ${task.state}`);
  if (job.state !== "Succeeded") wrong.push(`job ${job.state}: ${job.errors.join("; ")}`);
  wrong.push(...differences(after, expected));
  const round: Round = {
    workflow: workflow.kind,
    disturbance: disturbance.name,
    ...(struckAt === undefined ? {} : { struckAt }),
    isDisturbed: disturbance.before !== undefined || disturbance.after !== undefined,
    finishedSeconds,
    state: job.state,
    wrong,
    counted: changes(before, after),
  };
  return { round, passed: await crash.passed() };
}

/** The job that the request has made, found by what is new: the answer to the request may be lost. */
async function endedJob(
  { api }: ControlPlane,
  { kind }: Workflow,
  known: ReadonlySet<string>,
): Promise<Job> {
  const job = await until(`a job ${kind}`, async () =>
    (await api.jobs()).find(({ id, scenario }) => scenario === kind && !known.has(id)),
  );
  return await api.ended(job.id, ENDED_MS_MAX);
}

async function settled(
  plane: ControlPlane,
  machine: PaperMachine,
  expected: SideEffects,
): Promise<SideEffects> {
  let now = await countSideEffects(plane, machine);
  const look = async (): Promise<boolean> => {
    now = await countSideEffects(plane, machine);
    return differences(now, expected).length === 0;
  };
  await until("what was wished", look, SETTLED_MS_MAX).catch(() => undefined);
  return now;
}

function differences(now: SideEffects, expected: SideEffects): string[] {
  return keysOf(now)
    .filter((key) => now[key] !== expected[key])
    .map((key) => `${key}: ${now[key]}, not ${expected[key]}`);
}

function changes(before: SideEffects, after: SideEffects): Partial<SideEffects> {
  return Object.fromEntries(
    keysOf(after)
      .filter((key) => after[key] !== before[key])
      .map((key) => {
        const [from, to] = [before[key], after[key]];
        return [key, typeof from === "number" && typeof to === "number" ? to - from : to];
      }),
  );
}

function keysOf(effects: SideEffects): (keyof SideEffects)[] {
  return Object.keys(effects) as (keyof SideEffects)[];
}

export function seconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}
