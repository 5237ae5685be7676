import { setTimeout as wait } from "node:timers/promises";

import { MINUTE_MS, SECOND_MS, formatBytes } from "@osr/base/units";

import { killFastAgent, restartFastAgent, stopFastAgent } from "../rig/fast-agent.ts";
import type { Machine } from "../rig/machine.ts";
import type { ReferenceSnapshots } from "../rig/reference-snapshots.ts";
import type { Site } from "../rig/site.ts";
import type { ScenarioContext } from "../scenario.ts";

const POLL_MS = 200;
const RECOVERY_MS_MAX = 90 * SECOND_MS;
/** Longest wait before a kill, by phase. */
const DELAY_MS_MAX = { initial: 1500, load: 8000, frozen: 500, resync: 1000 } as const;
const FROZEN_MS_MAX = MINUTE_MS;
const STATES: ReadonlySet<string> = new Set(["initial", "resync", "protected"]);
const TROUBLE = /^(PROCESS_SERVER_UNREACHABLE|SESSION_REFUSED|PROCESS_SERVER_BUSY)$/;
/** Until an agent that was started compares. */
const RESYNC_MS_MAX = 30 * SECOND_MS;
/** Until an agent knows that its process server is gone. */
const NOTICE_MS = 2 * SECOND_MS;

export type KillRig = {
  readonly context: ScenarioContext;
  readonly site: Site;
  readonly machine: Machine;
  readonly references: ReferenceSnapshots;
  readonly machineId: string;
};

export type Phase = keyof typeof DELAY_MS_MAX;
type Role = "agent" | "process-server" | "storage-account";

export type Round = {
  readonly phase: Phase;
  readonly role: Role;
  /** What the agent was doing as far as its status said. */
  readonly state: string;
  readonly delayMs: number;
  readonly isRecovered: boolean;
  readonly recoveredMs: number;
  /**
   * As the agent counts it (status, sentAgainBytes): batches that went out once more, and blocks that were taken out of the
   * dirty sets and put back without having changed, as not acknowledged or not held any more. An upper bound.
   */
  readonly sentAgainBytes: number;
  /** Why disks were compared after it. */
  readonly resync?: string;
};

type AgentStatus = {
  readonly state: string;
  readonly unixMs: number;
  readonly disks: readonly {
    readonly sentAgainBytes: number;
    readonly resync?: { readonly reason: string };
    readonly lastResync?: { readonly reason: string };
  }[];
  readonly health: readonly { readonly code: string }[];
};

/** Rounds of kill -9, one after the other, at moments that a seed decides. */
export class KillRounds {
  readonly done: Round[] = [];
  readonly #rig: KillRig;
  #state: number;

  constructor(rig: KillRig, seed: number) {
    this.#rig = rig;
    this.#state = Math.trunc(seed);
  }

  async run(phase: Phase, count: number): Promise<void> {
    const { narrator } = this.#rig.context;
    for (let round = 0; round < count; round++) {
      if (phase === "resync") await this.#intoResync();
      const result = await (phase === "frozen" ? this.#frozenRound() : this.#round(phase));
      this.done.push(result);
      const { role, state, recoveredMs, sentAgainBytes, resync } = result;
      narrator.say(
        `round ${this.done.length}: ${role} killed (${phase}, ${state}), back after ${(recoveredMs / SECOND_MS).toFixed(1)} s, ${formatBytes(sentAgainBytes)} again${resync === undefined ? "" : `, ${resync}`}`,
      );
    }
  }

  async #round(phase: Phase): Promise<Round> {
    const roles: Role[] = ["agent", "process-server", "storage-account"];
    const role = roles[this.#below(roles.length)] ?? "agent";
    const delayMs = this.#below(DELAY_MS_MAX[phase]);
    const before = await this.#settled();
    await wait(delayMs, undefined, { signal: this.#rig.context.signal });
    return this.#kill(phase, role, delayMs, before);
  }

  /** Kills the agent while it holds the freeze: its guard must thaw. */
  async #frozenRound(): Promise<Round> {
    const { references, context, machine } = this.#rig;
    const before = await this.#settled();
    const delayMs = this.#below(DELAY_MS_MAX.frozen);
    const killed = Promise.withResolvers<void>();
    references.whileFrozen = async () => {
      references.whileFrozen = undefined;
      await wait(delayMs);
      await killFastAgent(machine);
      killed.resolve();
    };
    const limit = wait(FROZEN_MS_MAX, undefined, { signal: context.signal });
    await Promise.race([killed.promise, limit]);
    const writes = await machine.shell.run(
      "for d in 1 2; do echo x >/data$d/thawed && sync -f /data$d/thawed || exit 1; done",
      20 * SECOND_MS,
    );
    context.check(
      "the guard thaws when the agent is killed",
      writes.code === 0,
      `exit code ${writes.code} of a write, after a freeze held for ${delayMs} ms`,
    );
    return this.#recovered("frozen", "agent", delayMs, before);
  }

  async #kill(
    phase: Phase,
    role: Role,
    delayMs: number,
    before: AgentStatus | undefined,
  ): Promise<Round> {
    const { machine, site } = this.#rig;
    if (role === "agent") await killFastAgent(machine);
    else await killRole(site, role);
    return this.#recovered(phase, role, delayMs, before);
  }

  async #recovered(
    phase: Phase,
    role: Role,
    delayMs: number,
    before: AgentStatus | undefined,
  ): Promise<Round> {
    const { machine } = this.#rig;
    const beganMs = performance.now();
    const { unixMs = 0 } = (await statusOf(machine)) ?? {};
    if (role === "agent") await restartFastAgent(machine);
    // The next status is that of another agent, or of one that had time to notice.
    const after = await this.#settled(role === "agent" ? unixMs : unixMs + NOTICE_MS);
    const recoveredMs = performance.now() - beganMs;
    const base = role === "agent" ? 0 : sentAgainOf(before);
    const resync = after?.disks
      .map((disk) => disk.resync?.reason ?? disk.lastResync?.reason)
      .find((reason) => reason !== undefined);
    return {
      phase,
      role,
      state: before?.state ?? "starting",
      delayMs,
      isRecovered: after !== undefined,
      recoveredMs: Math.round(recoveredMs),
      sentAgainBytes: Math.max(0, sentAgainOf(after) - base),
      ...(role === "agent" && resync !== undefined ? { resync } : {}),
    };
  }

  /** The agent's status once it is well and newer than `sinceMs` of its clock; undefined where that takes too long. */
  async #settled(sinceMs = 0): Promise<AgentStatus | undefined> {
    const { signal } = this.#rig.context;
    const end = performance.now() + RECOVERY_MS_MAX;
    while (performance.now() < end) {
      const status = await statusOf(this.#rig.machine);
      const isWell =
        status !== undefined &&
        status.unixMs > sinceMs &&
        STATES.has(status.state) &&
        !status.health.some(({ code }) => TROUBLE.test(code));
      if (isWell) return status;
      await wait(POLL_MS, undefined, { signal });
    }
    return undefined;
  }

  /** An agent that is stopped and started again knows nothing, and compares. */
  async #intoResync(): Promise<void> {
    const { machine } = this.#rig;
    if ((await this.#settled())?.state === "resync") return;
    await stopFastAgent(machine);
    await restartFastAgent(machine);
    const end = performance.now() + RESYNC_MS_MAX;
    while ((await statusOf(machine))?.state !== "resync" && performance.now() < end)
      await wait(POLL_MS);
  }

  /** Below `limit` (mulberry32). */
  #below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }
}

/** Kills a role of the site; `osr up` starts it again. Resolves when the new one runs. */
async function killRole(site: Site, role: "process-server" | "storage-account"): Promise<void> {
  const pid = await runningPid(site, role, undefined);
  process.kill(pid, "SIGKILL");
  await runningPid(site, role, pid);
}

async function runningPid(
  site: Site,
  role: "process-server" | "storage-account",
  not: number | undefined,
): Promise<number> {
  const end = performance.now() + RECOVERY_MS_MAX;
  while (performance.now() < end) {
    const pid = await site.rolePid(role);
    if (pid !== undefined && pid !== not) return pid;
    await wait(POLL_MS);
  }
  throw new Error(`${role} does not run`);
}

function sentAgainOf(status: AgentStatus | undefined): number {
  return (status?.disks ?? []).reduce((sum, { sentAgainBytes }) => sum + sentAgainBytes, 0);
}

async function statusOf(machine: Machine): Promise<AgentStatus | undefined> {
  const { code, output } = await machine.shell.run("cat /run/osr/status.json");
  try {
    return code === 0 ? (JSON.parse(output) as AgentStatus) : undefined;
  } catch {
    return undefined;
  }
}
