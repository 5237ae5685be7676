import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { processesOf } from "../../rig/leaks.ts";
import type { Job } from "../../rig/vault-api.ts";
import { type ControlPlane, until } from "./control-plane.ts";
import { seconds } from "./disturbed-round.ts";
import { vaultDiesAt } from "./disturbance.ts";
import { BOOTED, type RealMachine } from "./real-machine.ts";
import {
  CHANGE_POINT,
  COMMIT,
  DISABLE,
  FAILOVER,
  TEST_FAILOVER,
  TEST_FAILOVER_CLEANUP,
  type Workflow,
  itemPath,
} from "./workflows.ts";

const ENDED_MS_MAX = 5 * MINUTE_MS;
const BOOTED_MS_MAX = 2 * MINUTE_MS;
/** A second boot would have come by then. */
const AGAIN_MS = 3 * SECOND_MS;
/** State and health of an agent that has stopped because its machine was failed over. */
const SAYS_FENCED = /^(idle|critical), .*(FAILED_OVER|LOG_FENCED)/;
const FENCED_MS_MAX = MINUTE_MS;

/** With real machines of the recovery site, the vault killed more than once in a job: one machine is started, it boots once, and none is left. */
export async function realFailover(plane: ControlPlane, real: RealMachine): Promise<void> {
  // Whoever lists the points makes the vault look for them.
  await plane.api.list(`${itemPath(plane, real.name)}/recoveryPoints`);
  await killedJob(plane, real, TEST_FAILOVER, [
    "task:TestFailoverPreflightChecksTask:worked",
    "task:BootTestProtectedEntitiesTask:begun",
    "task:BootTestProtectedEntitiesTask:worked",
  ]);
  await runsOnce(plane, real, "test failover", "test");
  await killedJob(plane, real, TEST_FAILOVER_CLEANUP, [
    "task:CleanupTestProtectedEntitiesTask:begun",
    "task:CleanupTestProtectedEntitiesTask:worked",
  ]);
  await machinesLeft(plane, "test failover cleanup", 0);
  await real.check("test failover and cleanup");
  await real.checkContent();
  await killedJob(plane, real, FAILOVER, [
    "transaction:fencing:committed",
    "task:FenceSourceTask:worked",
    "task:BootProtectedEntitiesTask:begun",
    "task:BootProtectedEntitiesTask:worked",
  ]);
  await runsOnce(plane, real, "failover", "failover");
  await isFenced(plane, real);
  await killedJob(plane, real, CHANGE_POINT, [
    "task:DeleteProtectedEntitiesTask:worked",
    "task:BootProtectedEntitiesTask:worked",
  ]);
  await runsOnce(plane, real, "change of the recovery point", "failover");
  await killedJob(plane, real, COMMIT, ["transaction:succeeded:committed"]);
  const { properties } = await plane.api.get(itemPath(plane, real.name));
  const { replica } = properties.providerSpecificDetails.openSiteRecovery;
  await until("its disks are on local storage", async () => {
    const machines = await plane.api.list("/OpenSiteRecovery/replicas");
    return machines.find(({ name }) => name === replica.replicaId)?.properties.isLocal === true;
  });
  await killedJob(plane, real, DISABLE, ["task:DeleteReplicatedDataTask:worked"]);
  const deletion: Workflow = {
    kind: "DeleteReplica",
    ask: () => ({ method: "DELETE", path: `/OpenSiteRecovery/replicas/${replica.replicaId}` }),
    effects: () => ({}),
  };
  await killedJob(plane, real, deletion, ["task:DeleteReplicaTask:worked"]);
  await machinesLeft(plane, "deletion", 0);
}

/** Asks once for a job, and kills the vault at each of these points in turn. */
async function killedJob(
  plane: ControlPlane,
  real: RealMachine,
  workflow: Workflow,
  points: readonly string[],
): Promise<void> {
  const { api, context } = plane;
  const { kind } = workflow;
  const known = new Set((await api.jobs()).map(({ id }) => id));
  const asked = await workflow.ask(plane, real);
  const deaths = points.map((point) => vaultDiesAt(plane, point));
  await deaths[0]?.before?.();
  const begin = performance.now();
  const reply = await api.attempt(asked);
  const what = `real machines: ${kind} ends once, the vault killed ${points.length} times in it`;
  if (reply !== undefined && reply.status !== 202) {
    await plane.crash.disarm();
    return context.check(what, false, `${reply.status} ${JSON.stringify(reply.body)}`);
  }
  const wrong: string[] = [];
  for (const [n, death] of deaths.entries()) {
    await death.after?.().catch((error: unknown) => wrong.push(String(error)));
    await deaths[n + 1]?.before?.();
  }
  const jobs = await until(kind, async () => {
    const fresh = (await api.jobs()).filter(({ id }) => !known.has(id));
    return fresh.length > 0 ? fresh : undefined;
  });
  const job: Job = await api.ended(must(jobs[0], "a job").id, ENDED_MS_MAX);
  if (jobs.length > 1) wrong.push(`${jobs.length} jobs`);
  if (job.state !== "Succeeded") wrong.push(`${job.state}: ${job.errors.join("; ")}`);
  const took = seconds(performance.now() - begin);
  context.check(
    what,
    wrong.length === 0,
    wrong.length === 0 ? `${took} s, killed at ${points.join(", ")}` : wrong.join("; "),
  );
  context.figure(`real machines: ${kind}`, { seconds: took, killedAt: points, state: job.state });
}

/** Machines of the recovery site are processes of QEMU with the fabric's replica folder in their arguments. */
async function machinesOf({ site }: ControlPlane): Promise<number> {
  const processes = await processesOf(site.replicaFolder);
  return processes.filter(({ name }) => name.includes("qemu-system")).length;
}

async function machinesLeft(plane: ControlPlane, what: string, expected: number): Promise<void> {
  let count = await machinesOf(plane);
  await until(
    "machines",
    async () => {
      count = await machinesOf(plane);
      return count === expected;
    },
    15 * SECOND_MS,
  ).catch(() => undefined);
  plane.context.check(
    `real machines: after the ${what} ${expected === 0 ? "no machine is" : "one machine is"} there`,
    count === expected,
    `${count} processes of QEMU`,
  );
}

/** One machine runs, and says once that it has booted. */
async function runsOnce(
  plane: ControlPlane,
  real: RealMachine,
  what: string,
  replica: "test" | "failover",
): Promise<void> {
  await machinesLeft(plane, what, 1);
  const path = `${itemPath(plane, real.name)}/OpenSiteRecovery/console?replica=${replica}`;
  const count = async (): Promise<number> => {
    const shown = await plane.api.get(path);
    return String(shown.properties.text).split(BOOTED).length - 1;
  };
  let times = 0;
  await until("the machine boots", async () => (times = await count()) > 0, BOOTED_MS_MAX).catch(
    () => undefined,
  );
  await wait(AGAIN_MS);
  times = await count();
  plane.context.check(
    `real machines: after the ${what} it boots from its recovery point, once`,
    times === 1,
    `its console says ${times} times that it has booted`,
  );
}

/** The source is told that it was failed over, stops, and says so. */
async function isFenced(plane: ControlPlane, real: RealMachine): Promise<void> {
  let said = "";
  const look = async (): Promise<boolean> => {
    const { state, health } = await real.status();
    said = [state, ...health.map(({ code, message }) => `${code} ${message}`)].join(", ");
    return SAYS_FENCED.test(said);
  };
  await until("the source stops", look, FENCED_MS_MAX).catch(() => undefined);
  plane.context.check(
    "real machines: the source is fenced, and says so",
    SAYS_FENCED.test(said),
    said,
  );
}
