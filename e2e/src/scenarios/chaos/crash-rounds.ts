import { HOUR_MS, SECOND_MS } from "@osr/base/units";

import { PaperMachine } from "../../rig/paper-machine.ts";
import { SiteState } from "../../rig/site-state.ts";
import { type ControlPlane, until, withFakeCompute } from "./control-plane.ts";
import { type Round, crashRound } from "./crash-round.ts";
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
  itemPath,
} from "./workflows.ts";

const SLOT_MS = 15 * SECOND_MS;
const SLOTS = 3;
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
/** After these its agent claims its logs, and makes points. */
const REPLICATES_AFTER: readonly Workflow[] = [ENABLE, CANCEL_FAILOVER];

/**
 * Kills the vault at each point of each kind of job. The machine goes through its life once undisturbed, which says which points there are, and then again and
 * again with each job killed at the next one of its points, until none is left.
 */
export async function crashRounds(plane: ControlPlane): Promise<void> {
  const { context, site } = plane;
  using machine = await PaperMachine.enrol(site, "paper01", "10.0.2.15");
  using neighbour = await PaperMachine.enrol(site, "paper02", "192.0.2.200");
  await known(plane, machine);
  await known(plane, neighbour);
  await withFakeCompute(plane, async () => {
    await crashRound(plane, neighbour, ENABLE);
    // Its first whole report after that makes its wish anew.
    await crashRound(plane, neighbour, REFRESH);
    const life = new Life(plane, machine);
    await context.narrator.step("a life without a crash", () => life.cycle());
    for (let cycle = 1; life.pointsLeft > 0 && cycle <= CYCLES_MAX; cycle++)
      await context.narrator.step(`${life.pointsLeft} points left`, () => life.cycle());
    report(plane, machine, life.rounds);
  });
}

/** Waits until the vault has heard of the machine. */
async function known({ api, container }: ControlPlane, { id }: PaperMachine): Promise<void> {
  await until("the machine is a protectable item", () =>
    api.get(`${container}/replicationProtectableItems/${id}`),
  );
}

class Life {
  readonly rounds: Round[] = [];
  readonly #plane: ControlPlane;
  readonly #machine: PaperMachine;
  /** Points at which the vault has not died yet, by kind of job; those of a kind are known after its first run. */
  readonly #left = new Map<string, string[]>();

  /** Of the newest recovery point: long ago, so that there are enough for all lives. */
  #slot = Math.floor((Date.now() - 24 * HOUR_MS) / SLOT_MS);

  constructor(plane: ControlPlane, machine: PaperMachine) {
    this.#plane = plane;
    this.#machine = machine;
  }

  get pointsLeft(): number {
    return [...this.#left.values()].reduce((sum, points) => sum + points.length, 0);
  }

  async cycle(): Promise<void> {
    for (const { isNeeded, workflows } of STRETCHES)
      if (isNeeded || workflows.some(({ kind }) => this.#left.get(kind)?.length !== 0))
        for (const workflow of workflows) await this.#live(workflow);
  }

  async #live(workflow: Workflow): Promise<void> {
    const left = this.#left.get(workflow.kind);
    const { round, passed } = await crashRound(this.#plane, this.#machine, workflow, left?.shift());
    this.rounds.push(round);
    const { killedAt = "undisturbed", wrong, finishedSeconds } = round;
    const { narrator } = this.#plane.context;
    narrator.say(
      `${workflow.kind} ${killedAt}: ${finishedSeconds} s${wrong.length === 0 ? "" : ` WRONG ${wrong.join("; ")}`}`,
    );
    if (left === undefined) this.#left.set(workflow.kind, [...new Set(passed)]);
    if (REPLICATES_AFTER.includes(workflow)) await this.#replicate();
  }

  async #replicate(): Promise<void> {
    const { site, api } = this.#plane;
    const slots = Array.from({ length: SLOTS }, () => (this.#slot += 1));
    this.#plane.host.site.slots = slots;
    await this.#machine.replicate(await SiteState.read(site), slots);
    // Whoever lists the points makes the vault look for them.
    await api.get(`${itemPath(this.#plane, this.#machine.name)}/recoveryPoints`);
  }
}

function report(
  { context, host }: ControlPlane,
  machine: PaperMachine,
  rounds: readonly Round[],
): void {
  const byKind = Map.groupBy(rounds, ({ workflow }) => workflow);
  for (const [kind, own] of byKind) {
    const killed = own.filter(({ killedAt }) => killedAt !== undefined);
    const wrong = own.filter((round) => round.wrong.length > 0);
    const slowest = Math.max(...killed.map(({ finishedSeconds }) => finishedSeconds));
    context.check(
      `${kind}: killed at each of its points, it ends once, with the effects of one`,
      killed.length > 0 && wrong.length === 0,
      wrong.length === 0
        ? `${killed.length} points, finished at most ${slowest} s after the death of the vault`
        : wrong.map(({ killedAt, wrong: why }) => `${killedAt}: ${why.join("; ")}`).join(" | "),
    );
  }
  const starts = host.effects.filter(({ machineId }) => machineId === machine.id);
  const addresses = new Set(starts.map(({ address }) => address ?? "none"));
  context.check(
    "the machine was given one address, whoever started it",
    addresses.size === 1 && !addresses.has("none"),
    `${[...addresses].join()} in ${starts.length} starts`,
  );
  context.check(
    "no machine of the recovery site is left over",
    host.site.replicas.size === 0,
    `${host.site.replicas.size} left`,
  );
  context.figure("crashes", rounds);
}
