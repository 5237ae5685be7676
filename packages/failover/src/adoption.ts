import type { Uuid } from "@osr/base/uuid";
import type { MachineStatus } from "@osr/compute/compute-provider";

import { type DiskExports, openDisks, serveDisks } from "./disk-exports.ts";
import { FailedOverMachine, removeReplica } from "./failed-over-machine.ts";
import { planFailover } from "./failover-plan.ts";
import type { FailoverPorts } from "./failover-ports.ts";
import {
  type ReplicaState,
  listReplicas,
  readReplicaState,
  removeReplicaFolder,
  replicaSocketPath,
} from "./replica-state.ts";

export type Adoption = {
  readonly machines: readonly FailedOverMachine[];
  /** Failovers that were cut off before they succeeded, or whose machine is gone: what was left of them is removed. */
  readonly undone: readonly Uuid[];
  /** What could not be adopted now; its machine waits, nothing of it is removed. */
  readonly failed: readonly { readonly replicaId: Uuid; readonly error: unknown }[];
};

/**
 * Takes over the failed-over machines of a process that has ended: serves the disks of those that still need it, at the
 * place where their machines look for them, and goes on moving those that were being moved. `only`: of these alone, as for another try.
 */
export async function adoptFailedOverMachines(
  ports: FailoverPorts,
  signal: AbortSignal,
  only?: ReadonlySet<Uuid>,
): Promise<Adoption> {
  const machines: FailedOverMachine[] = [];
  const undone: Uuid[] = [];
  const failed: { replicaId: Uuid; error: unknown }[] = [];
  const statuses = new Map(
    (await ports.compute.list()).map((status) => [status.machineId, status]),
  );
  for (const replicaId of await listReplicas(ports.runDirectory)) {
    if (only?.has(replicaId) === false) continue;
    try {
      const machine = await adopt(replicaId, statuses.get(replicaId), ports, signal);
      if (machine === undefined) undone.push(replicaId);
      else machines.push(machine);
    } catch (error) {
      signal.throwIfAborted();
      ports.log.error("a failed-over machine could not be adopted", { replicaId, error });
      failed.push({ replicaId, error });
    }
  }
  return { machines, undone, failed };
}

/** Undefined where there was nothing to adopt and the rest is removed. */
async function adopt(
  replicaId: Uuid,
  status: MachineStatus | undefined,
  ports: FailoverPorts,
  signal: AbortSignal,
): Promise<FailedOverMachine | undefined> {
  const { runDirectory, keys } = ports;
  const state = await readReplicaState(runDirectory, replicaId, (id) => keys.groupKey(id));
  if (state?.phase !== "running" || status === undefined) {
    await removeReplica(state ?? { replicaId, network: undefined }, ports);
    await removeReplicaFolder(runDirectory, replicaId);
    return undefined;
  }
  const isLocal = state.diskNames.every((name) => status.localDisks.includes(name));
  const exports = isLocal ? undefined : await serveAgain(state, ports, signal);
  const machine = new FailedOverMachine(state, exports, ports);
  if (state.isMoving && exports !== undefined && status.state === "running")
    machine.beginMove(() => undefined);
  return machine;
}

async function serveAgain(
  state: ReplicaState,
  ports: FailoverPorts,
  signal: AbortSignal,
): Promise<DiskExports> {
  const plan = await planFailover(state.machineId, state.point, ports, signal);
  const disks = await openDisks(plan, ports, signal);
  try {
    return await serveDisks(disks, replicaSocketPath(ports.runDirectory, state.replicaId), ports);
  } catch (error) {
    await disks[Symbol.asyncDispose]();
    throw error;
  }
}
