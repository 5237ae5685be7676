import { HOUR_MS, SECOND_MS } from "@osr/base/units";

import { PaperMachine } from "../../rig/paper-machine.ts";
import { SiteState } from "../../rig/site-state.ts";
import { type ControlPlane, until } from "./control-plane.ts";
import { type Round, disturbedRound } from "./disturbed-round.ts";
import type { Disturbance } from "./disturbance.ts";
import { CANCEL_FAILOVER, ENABLE, type Workflow, itemPath } from "./workflows.ts";

const SLOT_MS = 15 * SECOND_MS;
const SLOTS = 3;
/** After these its agent claims its logs, and makes points. */
const REPLICATES_AFTER: readonly Workflow[] = [ENABLE, CANCEL_FAILOVER];

/** A machine on paper that goes through jobs, one after the other, and what came of each. */
export class PaperLife {
  readonly machine: PaperMachine;
  readonly rounds: Round[] = [];
  readonly #plane: ControlPlane;
  /** Of the newest recovery point: long ago, so that there are enough for all lives. */
  #slot = Math.floor((Date.now() - 24 * HOUR_MS) / SLOT_MS);

  constructor(plane: ControlPlane, machine: PaperMachine) {
    this.#plane = plane;
    this.machine = machine;
  }

  /** Runs a job; gives the points of it that the vault got to. */
  async live(workflow: Workflow, disturbance?: Disturbance): Promise<readonly string[]> {
    const { round, passed } = await disturbedRound(
      this.#plane,
      this.machine,
      workflow,
      disturbance,
    );
    this.rounds.push(round);
    const { wrong, finishedSeconds } = round;
    this.#plane.context.narrator.say(
      `${workflow.kind}, ${round.disturbance}: ${finishedSeconds} s${wrong.map((why) => ` WRONG ${why}`).join(";")}`,
    );
    if (REPLICATES_AFTER.includes(workflow)) await this.#replicate();
    return passed;
  }

  async #replicate(): Promise<void> {
    const { site, api, host } = this.#plane;
    const slots = Array.from({ length: SLOTS }, () => (this.#slot += 1));
    host.site.slots = slots;
    await this.machine.replicate(await SiteState.read(site), slots);
    // Whoever lists the points makes the vault look for them.
    await api.get(`${itemPath(this.#plane, this.machine.name)}/recoveryPoints`);
  }
}

/** Enrols a machine on paper and waits until the vault has heard of it. */
export async function newPaperMachine(
  { site, api, container }: ControlPlane,
  name: string,
  address: string,
): Promise<PaperMachine> {
  const machine = await PaperMachine.enrol(site, name, address);
  await until("the machine is a protectable item", () =>
    api.get(`${container}/replicationProtectableItems/${machine.id}`),
  );
  return machine;
}

/** Checks the rounds of each kind of job, and that each machine of the recovery site is gone and had the address of its source. */
export function checkRounds(
  { context, host }: ControlPlane,
  what: string,
  { machine, rounds }: PaperLife,
): void {
  for (const [kind, own] of Map.groupBy(rounds, ({ workflow }) => workflow)) {
    const disturbed = own.filter(({ isDisturbed }) => isDisturbed);
    const wrong = own.filter((round) => round.wrong.length > 0);
    if (disturbed.length === 0 && wrong.length === 0) continue;
    const slowest = Math.max(...disturbed.map(({ finishedSeconds }) => finishedSeconds));
    context.check(
      `${what}: ${kind} ends once, with the effects of one`,
      wrong.length === 0,
      wrong.length === 0
        ? `${disturbed.length} times, finished at most ${slowest} s later`
        : wrong
            .map(({ disturbance, wrong: why }) => `${disturbance}: ${why.join("; ")}`)
            .join(" | "),
    );
  }
  const starts = host.effects.filter(({ machineId }) => machineId === machine.id);
  const addresses = new Set(starts.map(({ address }) => address ?? "none"));
  context.check(
    `${what}: the machine has one address, whoever started it`,
    addresses.size === 1 && !addresses.has("none"),
    `${[...addresses].join()} in ${starts.length} starts`,
  );
  context.check(
    `${what}: no machine of the recovery site is left over`,
    host.site.replicas.size === 0,
    `${host.site.replicas.size} left`,
  );
  context.figure(what, rounds);
}
