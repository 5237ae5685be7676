import type { Uuid } from "@osr/base/uuid";

export type ChoosableServer = {
  readonly id: Uuid;
  /** It was heard of, and agents know how to reach it. */
  readonly isAlive: boolean;
  /** It keeps the machines that it has, but takes no new ones. */
  readonly isCritical: boolean;
};

export type MachineToPlace = {
  readonly machineId: Uuid;
  /** The process server that somebody chose for it. */
  readonly wantedId?: Uuid | undefined;
  /** The one that it has. */
  readonly currentId?: Uuid | undefined;
};

/**
 * A process server for each machine that can have one. A machine stays where it is, as moving costs a session, unless another
 * one is wanted or its own is not alive. Others go to the one with the fewest machines that is alive and not critical; where
 * there is none, a machine keeps what it has: its process server may come back.
 */
export function chooseProcessServers(
  machines: readonly MachineToPlace[],
  servers: readonly ChoosableServer[],
): Map<Uuid, Uuid> {
  const alive = new Set(servers.filter(({ isAlive }) => isAlive).map(({ id }) => id));
  const open = servers.filter(({ isAlive, isCritical }) => isAlive && !isCritical);
  const loads = new Map<Uuid, number>(servers.map(({ id }) => [id, 0]));
  const chosen = new Map<Uuid, Uuid>();
  const choose = (machineId: Uuid, id: Uuid): void => {
    chosen.set(machineId, id);
    loads.set(id, (loads.get(id) ?? 0) + 1);
  };
  const homeless: MachineToPlace[] = [];
  for (const machine of machines) {
    const { machineId, wantedId, currentId } = machine;
    const kept = [wantedId, currentId].find((id) => id !== undefined && alive.has(id));
    if (kept === undefined) homeless.push(machine);
    else choose(machineId, kept);
  }
  for (const { machineId, currentId } of homeless) {
    const [best] = open
      .map(({ id }) => ({ id, load: loads.get(id) ?? 0 }))
      .toSorted((a, b) => a.load - b.load || (a.id < b.id ? -1 : 1));
    const id = best?.id ?? currentId;
    if (id !== undefined) choose(machineId, id);
  }
  return chosen;
}
