import { setTimeout as wait } from "node:timers/promises";

import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";
import { type Uuid, uuid } from "@osr/base/uuid";
import { parseObjectName, recoveryPointPrefix } from "@osr/repository/object-names";
import { listAll } from "@osr/repository/object-store";

import { agentDisk } from "../../rig/agent-program.ts";
import { bootSector } from "../../rig/boot-sector.ts";
import { enrolFastAgent, fastAgentStatus } from "../../rig/fast-agent.ts";
import { startFastMachine } from "../../rig/fast-rig.ts";
import type { Machine } from "../../rig/machine.ts";
import { ReferenceSnapshots } from "../../rig/reference-snapshots.ts";
import { comparePoint, listedPoints } from "../../rig/repository-points.ts";
import { withStore } from "../../rig/site-state.ts";
import { type ControlPlane, until } from "./control-plane.ts";
import { ENABLE } from "./workflows.ts";

/** What its replica says on its serial console, once for each time that it boots. */
export const BOOTED = "this machine runs from its recovery point";
const NAME = "real01";
const DISK = "data1";
const KERNEL_NAME = "vdc";
const DISK_BYTES = 96 * MIB;
const SLOT_MS = 15 * SECOND_MS;
const FIRST_POINT_MS_MAX = 4 * MINUTE_MS;
const POLL_MS = SECOND_MS;

type AgentStatus = {
  readonly state: string;
  readonly pointsMade: number;
  readonly pointsMissed: number;
  readonly disks: readonly { readonly resync?: object; readonly lastResync?: object }[];
  readonly health: readonly { readonly code: string; readonly message: string }[];
};

/** A machine that is replicated for real while its control plane suffers; every point that it ever had is remembered. */
export class RealMachine {
  readonly name = NAME;
  readonly id: Uuid;
  readonly machine: Machine;
  readonly #plane: ControlPlane;
  readonly #references: ReferenceSnapshots;
  readonly #seen = new Set<number>();

  private constructor(
    plane: ControlPlane,
    machine: Machine,
    references: ReferenceSnapshots,
    id: Uuid,
  ) {
    this.#plane = plane;
    this.machine = machine;
    this.#references = references;
    this.id = id;
  }

  /** Boots it, protects it and waits for its first recovery point; `stack` ends it. */
  static async protect(plane: ControlPlane, stack: AsyncDisposableStack): Promise<RealMachine> {
    const { context, site, api } = plane;
    const { folder, narrator, signal } = context;
    const machine = stack.use(
      await startFastMachine({
        directory: await folder.folder("real"),
        dataDisksBytes: [DISK_BYTES],
        agentDiskPath: await agentDisk(narrator, signal),
        bootSector: bootSector(BOOTED),
        narrator,
        signal,
      }),
    );
    const references = stack.use(await ReferenceSnapshots.attach(machine, [DISK], narrator));
    // What is mounted there says which disk the machine boots from.
    await machine.shell.must(`mkdir -p /boot && mount -t ext4 /dev/${KERNEL_NAME} /boot`);
    const id = uuid(await enrolFastAgent(machine, site, NAME));
    const real = new RealMachine(plane, machine, references, id);
    await until("the real machine is a protectable item", () =>
      api.get(`${plane.container}/replicationProtectableItems/${id}`),
    );
    await startWriter(machine);
    await api.ask(await ENABLE.ask(plane, real));
    await narrator.step("initial replication and a first point", () =>
      real.pointAfter(0, FIRST_POINT_MS_MAX),
    );
    return real;
  }

  /** Slots of the recovery points that the storage account has, oldest first. */
  async slots(): Promise<readonly number[]> {
    return withStore(this.#plane.site, "reader", async (store, vaultId) => {
      const slots: number[] = [];
      for await (const { name } of listAll(store, recoveryPointPrefix(vaultId, this.id))) {
        const parsed = parseObjectName(vaultId, name);
        if (parsed?.kind === "recovery-point") slots.push(parsed.slot);
      }
      for (const slot of slots) this.#seen.add(slot);
      return slots.toSorted((a, b) => a - b);
    });
  }

  /** Waits for a point that was cut after this moment. */
  async pointAfter(unixMs: number, msMax: number): Promise<number> {
    return until(
      "a recovery point",
      async () => {
        const newest = (await this.slots()).at(-1) ?? 0;
        if (newest * SLOT_MS > unixMs) return newest;
        await wait(POLL_MS);
        return undefined;
      },
      msMax,
    );
  }

  async status(): Promise<AgentStatus> {
    return await fastAgentStatus<AgentStatus>(this.machine);
  }

  /** That replication goes on after what has happened, nothing was compared for it, and no point that there ever was is gone. */
  async check(what: string): Promise<void> {
    const { check } = this.#plane.context;
    const begin = performance.now();
    const newest = await this.pointAfter(Date.now(), 3 * MINUTE_MS).catch(String);
    const seconds = Math.round((performance.now() - begin) / SECOND_MS);
    check(
      `${what}: recovery points go on`,
      typeof newest === "number",
      typeof newest === "number" ? `the next one after ${seconds} s` : newest,
    );
    const { state, disks, pointsMade, pointsMissed, health } = await this.status();
    const isCompared = disks.some(({ resync, lastResync }) => (resync ?? lastResync) !== undefined);
    check(
      `${what}: nothing was replicated anew or compared`,
      !isCompared && disks.length === 1 && state === "protected",
      `${state}, ${pointsMade} points made, ${pointsMissed} missed${health.map(({ code }) => `, ${code}`).join("")}; ${JSON.stringify(disks.map(({ lastResync }) => lastResync ?? "no comparison"))}`,
    );
    const now = new Set(await this.slots());
    const lost = [...this.#seen].filter((slot) => !now.has(slot));
    check(
      `${what}: no recovery point is lost`,
      lost.length === 0,
      lost.length === 0 ? `${now.size} points` : `slots ${lost.join(", ")} are gone`,
    );
  }

  /** That points hold what the disk held when they were cut: the first, the last, and some between. */
  async checkContent(): Promise<void> {
    const { context, site } = this.#plane;
    const { folder, signal, narrator, check } = context;
    const points = (await listedPoints(site, this.id, signal)).filter(
      ({ offered }) => offered === "yes",
    );
    const chosen = [0, 1, 2, 3, 4].map((n) => points[Math.floor((n * (points.length - 1)) / 4)]);
    const differing: number[] = [];
    let compared = 0;
    await narrator.step("comparing points with what the disk held", async () => {
      for (const point of new Set(chosen)) {
        if (point === undefined) continue;
        const references = await this.#references.of(point.cut, signal);
        const comparisons = await comparePoint(site, point, references, {
          kernelNameOf: () => KERNEL_NAME,
          directory: await folder.folder("points"),
          signal,
        });
        compared += comparisons.length;
        for (const { frozenSha256, materialisedSha256 } of comparisons)
          if (frozenSha256 !== materialisedSha256) differing.push(point.point);
      }
    });
    check(
      "points from before, within and after it all are byte-exact",
      compared > 2 && differing.length === 0,
      `${compared} of ${points.length} compared, ${differing.length} differ`,
    );
  }
}

/** Small changes all the time, so that each point is another one. */
async function startWriter(machine: Machine): Promise<void> {
  const script = `n=0
while :; do
  n=$((n + 1))
  dd if=/dev/urandom of=/data1/file$((n % 12)) bs=16k count=$((n % 9 + 1)) 2>/dev/null
  [ $((n % 5)) = 0 ] && sync
  sleep 1
done
`;
  await machine.shell.writeFile("/run/writer.sh", Buffer.from(script), "700");
  await machine.shell.must("(exec setsid sh /run/writer.sh) >/dev/null 2>&1 </dev/null &");
}
