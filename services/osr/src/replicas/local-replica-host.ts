import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type { NetworkSpec } from "@osr/compute/compute-provider";
import { adoptFailedOverMachines } from "@osr/failover/adoption";
import type { FailedOverMachine } from "@osr/failover/failed-over-machine";
import { type FailoverRequest, startFailover } from "@osr/failover/failover";
import { planFailover } from "@osr/failover/failover-plan";
import type { FailoverPorts } from "@osr/failover/failover-ports";
import { choosePoint } from "@osr/failover/point-choice";
import type { LeaseGate } from "@osr/vault/replicas/lease-gate";
import type {
  AskedBy,
  ReplicaFacts,
  ReplicaObjection,
  ReplicaSpec,
} from "@osr/contracts/replica-host";
import type { ReplicaHost } from "@osr/vault/replicas/replica-host";

import { type HostCapacity, capacityObjections } from "./host-capacity.ts";

type PortsOf = (vaultId: Uuid) => FailoverPorts;

export type LocalReplicaPorts = {
  /** Ports of failovers into the objects of one vault. */
  readonly portsOf: PortsOf;
  readonly gate: LeaseGate;
  readonly capacity: () => HostCapacity;
  readonly scheduler: Scheduler;
};

const ADOPT_AGAIN_MS = 30_000;
const FIRST_BOOT_MS = 15 * 60_000;
const {
  REPLICA_DESTROYED: DESTROYED,
  REPLICA_HOST_STOPPING: STOPPING,
  REPLICA_UNADOPTED: UNADOPTED,
} = defineErrors({
  REPLICA_UNADOPTED: {
    retryable: true,
    hint: "The machine waits for its disks. Check that the storage account answers; it is tried again every half minute.",
  },
  REPLICA_DESTROYED: {
    retryable: false,
    hint: "The machine was cleaned up while it was being started. Start it again if it is still wanted.",
  },
  REPLICA_HOST_STOPPING: { retryable: true, hint: "Ask again when the replica host is back." },
});

type Starting = {
  readonly machine: Promise<FailedOverMachine>;
  readonly controller: AbortController;
};

/**
 * Runs replicas on this machine, in this process: the disks that are not local yet are served from here, and a successor
 * adopts them. One process at a time uses the run directory.
 */
export class LocalReplicaHost implements ReplicaHost, AsyncDisposable {
  readonly #portsOf: PortsOf;
  readonly #gate: LeaseGate;
  readonly #capacity: () => HostCapacity;
  readonly #scheduler: Scheduler;
  /** Machines of an earlier process that could not be taken over yet, of which vault, and why. */
  readonly #orphans = new Map<Uuid, { readonly vaultId: Uuid; readonly error: unknown }>();
  readonly #ending = new AbortController();
  #retry: Disposable | undefined;
  #retrying: Promise<void> = Promise.resolve();
  readonly #machines = new Map<Uuid, FailedOverMachine>();
  readonly #starting = new Map<Uuid, Starting>();

  private constructor({ portsOf, gate, capacity, scheduler }: LocalReplicaPorts) {
    this.#scheduler = scheduler;
    this.#portsOf = portsOf;
    this.#gate = gate;
    this.#capacity = capacity;
  }

  /** Takes over what an earlier process of the same run directory has left. */
  static async open(
    ports: LocalReplicaPorts,
    vaultIds: readonly Uuid[],
    signal: AbortSignal,
  ): Promise<LocalReplicaHost> {
    const host = new LocalReplicaHost(ports);
    for (const vaultId of vaultIds) await host.#adopt(vaultId, signal);
    host.#retryLater();
    return host;
  }

  /** Takes over the machines of a vault, or those of `only`. */
  async #adopt(vaultId: Uuid, signal: AbortSignal, only?: ReadonlySet<Uuid>): Promise<void> {
    const adoption = await adoptFailedOverMachines(this.#portsOf(vaultId), signal, only);
    for (const replicaId of only ?? []) this.#orphans.delete(replicaId);
    for (const machine of adoption.machines) this.#machines.set(machine.replicaId, machine);
    for (const { replicaId, error } of adoption.failed)
      this.#orphans.set(replicaId, { vaultId, error });
  }

  /** Their disks are served by nobody: as soon as that is possible, they are. */
  #retryLater(): void {
    if (this.#orphans.size === 0 || this.#ending.signal.aborted) return;
    this.#retry = this.#scheduler.after(ADOPT_AGAIN_MS, () => {
      this.#retrying = this.#adoptAgain();
    });
  }

  async #adoptAgain(): Promise<void> {
    const vaults = new Set([...this.#orphans.values()].map(({ vaultId }) => vaultId));
    for (const vaultId of vaults) {
      const waiting = [...this.#orphans].filter(([, orphan]) => orphan.vaultId === vaultId);
      const only = new Set(waiting.map(([replicaId]) => replicaId));
      try {
        await this.#adopt(vaultId, this.#ending.signal, only);
      } catch (error) {
        if (this.#ending.signal.aborted) return;
        this.#portsOf(vaultId).log.error("machines could not be taken over", { error });
      }
    }
    this.#retryLater();
  }

  async preflight(spec: ReplicaSpec, signal: AbortSignal): Promise<readonly ReplicaObjection[]> {
    const ports = this.#portsOf(spec.vaultId);
    try {
      const point = await choosePoint(spec.groupId, spec.point, ports, signal);
      const { description, disks } = await planFailover(spec.machineId, point, ports, signal);
      const need = {
        cpuCount: spec.cpuCount ?? description.cpuCount,
        memoryBytes: spec.memoryBytes ?? description.memoryBytes,
        diskBytes: disks.reduce((bytes, { descriptor }) => bytes + descriptor.sizeBytes, 0),
      };
      return capacityObjections(need, this.#capacity());
    } catch (error) {
      if (!(error instanceof OsrError) || error.retryable || signal.aborted) throw error;
      const { code, hint } = error;
      return [{ code, level: "error", message: messageOf(error), hint }];
    }
  }

  async start(spec: ReplicaSpec, by: AskedBy, signal: AbortSignal): Promise<ReplicaFacts> {
    this.#gate.pass(by);
    const { replicaId } = spec;
    this.#demandAdopted(replicaId);
    const known = this.#machines.get(replicaId);
    if (known !== undefined) return await factsOf(known);
    const starting = this.#starting.get(replicaId) ?? this.#begin(spec, signal);
    return await factsOf(await starting.machine);
  }

  async destroy(replicaId: Uuid, by: AskedBy): Promise<void> {
    this.#gate.pass(by);
    this.#demandAdopted(replicaId);
    const starting = this.#starting.get(replicaId);
    starting?.controller.abort(new OsrError(DESTROYED, `replica ${replicaId} is destroyed`));
    await starting?.machine.catch(() => undefined);
    const machine = this.#machines.get(replicaId);
    if (machine === undefined) return;
    await machine.cleanup();
    this.#machines.delete(replicaId);
  }

  async facts(replicaId: Uuid): Promise<ReplicaFacts | undefined> {
    this.#demandAdopted(replicaId);
    const machine = this.#machines.get(replicaId);
    return machine === undefined ? undefined : await factsOf(machine);
  }

  list(): Promise<readonly ReplicaFacts[]> {
    return Promise.all([...this.#machines.values()].map((machine) => factsOf(machine)));
  }

  async console(replicaId: Uuid, bytesMax: number): Promise<string> {
    return (await this.#machines.get(replicaId)?.console(bytesMax)) ?? "";
  }

  async screenshot(replicaId: Uuid): Promise<Buffer | undefined> {
    const machine = this.#machines.get(replicaId);
    if (machine === undefined) return undefined;
    const { state } = await machine.status();
    return state === "running" ? await machine.screenshot() : undefined;
  }

  /** Lets go of the machines: they stay as they are, for a successor. What is being started is undone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort(new OsrError(STOPPING, "the replica host is being stopped"));
    this.#retry?.[Symbol.dispose]();
    await this.#retrying;
    const starting = [...this.#starting.values()];
    for (const { controller } of starting)
      controller.abort(new OsrError(STOPPING, "the replica host is being stopped"));
    await Promise.allSettled(starting.map(({ machine }) => machine));
    for (const machine of this.#machines.values()) await machine[Symbol.asyncDispose]();
  }

  /** What waits for its disks is neither gone nor running: nobody is told either. */
  #demandAdopted(replicaId: Uuid): void {
    const orphan = this.#orphans.get(replicaId);
    if (orphan === undefined) return;
    const cause = orphan.error;
    throw new OsrError(
      UNADOPTED,
      `replica ${replicaId} could not be taken over: ${messageOf(cause)}`,
      { cause },
    );
  }

  #begin(spec: ReplicaSpec, signal: AbortSignal): Starting {
    const { replicaId, vaultId } = spec;
    const ports = this.#portsOf(vaultId);
    const controller = new AbortController();
    const either = AbortSignal.any([signal, controller.signal]);
    const machine = startFailover(requestOf(spec, either), ports)
      .then((running) => {
        this.#machines.set(replicaId, running);
        return running;
      })
      .finally(() => this.#starting.delete(replicaId));
    const starting = { machine, controller };
    this.#starting.set(replicaId, starting);
    return starting;
  }
}

function requestOf(spec: ReplicaSpec, signal: AbortSignal): FailoverRequest {
  const { network, mac, cpuCount, memoryBytes } = spec;
  return {
    replicaId: spec.replicaId,
    machineId: spec.machineId,
    groupId: spec.groupId,
    point: spec.point,
    replica: {
      name: spec.name,
      ...(cpuCount === undefined ? {} : { cpuCount }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(network === undefined || mac === undefined
        ? {}
        : { nics: [{ network: network.name, mac }] }),
    },
    ...(network === undefined ? {} : { network: networkSpecOf(network) }),
    movesToLocalStorage: true,
    timeoutMs: FIRST_BOOT_MS,
    signal,
  };
}

function networkSpecOf(network: NonNullable<ReplicaSpec["network"]>): NetworkSpec {
  const { name, subnet, gateway, isIsolated, reservations } = network;
  return { name, subnet, gateway, isolated: isIsolated, reservations };
}

async function factsOf(machine: FailedOverMachine): Promise<ReplicaFacts> {
  const { state, reason } = await machine.status();
  const { slot, cutId, unixMs } = machine.point;
  return {
    replicaId: machine.replicaId,
    machineId: machine.machineId,
    name: machine.name,
    state,
    ...(reason === undefined ? {} : { reason }),
    point: { slot, cutId, class: machine.point.class === "app" ? "app" : "crash", unixMs },
    ...(machine.network === undefined ? {} : { network: machine.network }),
    isLocal: !machine.isServed,
  };
}
