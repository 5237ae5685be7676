import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import type { MachineStatus, MoveProgress } from "@osr/compute/compute-provider";
import type { RecoveryPoint } from "@osr/repository/recovery-point";

import type { DiskExports } from "./disk-exports.ts";
import type { FailoverPorts } from "./failover-ports.ts";
import { type ReplicaState, removeReplicaFolder } from "./replica-state.ts";

type MachinePorts = Pick<FailoverPorts, "compute" | "log" | "runDirectory">;

/**
 * A machine that runs from a recovery point. Until all its disks are on local storage, this process serves them, so that
 * letting go of it (disposing) makes the machine wait at its next read until a successor adopts it.
 */
export class FailedOverMachine implements AsyncDisposable {
  readonly #state: ReplicaState;
  readonly #ports: MachinePorts;
  /** Undefined once nothing of the machine is read from the storage account any more. */
  #exports: DiskExports | undefined;
  #move: Promise<void> | undefined;
  readonly #released = new AbortController();

  constructor(state: ReplicaState, exports: DiskExports | undefined, ports: MachinePorts) {
    this.#state = state;
    this.#exports = exports;
    this.#ports = ports;
  }

  /** The machine's id in the compute provider. */
  get replicaId(): Uuid {
    return this.#state.replicaId;
  }

  /** The protected machine that it is a replica of. */
  get machineId(): Uuid {
    return this.#state.machineId;
  }

  get name(): string {
    return this.#state.name;
  }

  get point(): RecoveryPoint {
    return this.#state.point;
  }

  get network(): string | undefined {
    return this.#state.network;
  }

  /** True while its disks are still read from the storage account through this process. */
  get isServed(): boolean {
    return this.#exports !== undefined;
  }

  status(): Promise<MachineStatus> {
    return this.#ports.compute.status(this.replicaId);
  }

  /** The last `bytesMax` bytes of its serial console. */
  console(bytesMax: number): Promise<string> {
    return this.#ports.compute.console(this.replicaId, bytesMax);
  }

  /** What is on its screen: a PNG. */
  screenshot(): Promise<Buffer> {
    return this.#ports.compute.screenshot(this.replicaId);
  }

  /**
   * Moves its disks to local storage while it runs, then stops serving them. Where a move is under way already, waits for
   * that one, whose progress goes to who began it. After a failure it may be called again.
   */
  moveToLocalStorage(
    onProgress: (progress: MoveProgress) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    this.#move ??= this.#moveDisks(onProgress, signal).finally(() => {
      this.#move = undefined;
    });
    return this.#move;
  }

  /**
   * Begins to move and returns. What goes wrong is logged, and the machine runs on as it is: moveToLocalStorage may be
   * called again.
   */
  beginMove(
    onState: (state: "started" | "running" | "done" | "failed", progress?: MoveProgress) => void,
  ): void {
    void this.#moveAndTell(onState);
  }

  /**
   * Ends a test failover: destroys the machine with all that it has written, its network unless other machines are
   * attached to it, its exports and files. May be called again after a failure.
   */
  async cleanup(): Promise<void> {
    await this.#endMove();
    const { compute, log, runDirectory } = this.#ports;
    await removeReplica(this.#state, { compute, log });
    await this.#closeExports();
    await removeReplicaFolder(runDirectory, this.replicaId);
  }

  /** Lets go of it: a successor adopts it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endMove();
    await this.#closeExports();
  }

  async #moveDisks(
    onProgress: (progress: MoveProgress) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.#exports === undefined) return;
    const signals = [this.#released.signal, ...(signal === undefined ? [] : [signal])];
    const { compute } = this.#ports;
    await compute.moveToLocalStorage(this.replicaId, onProgress, AbortSignal.any(signals));
    await this.#closeExports();
  }

  async #moveAndTell(
    onState: (state: "started" | "running" | "done" | "failed", progress?: MoveProgress) => void,
  ): Promise<void> {
    onState("started");
    try {
      await this.moveToLocalStorage((progress) => {
        onState("running", progress);
      });
      onState("done");
    } catch (error) {
      const { replicaId } = this;
      if (!this.#released.signal.aborted)
        this.#ports.log.error("the disks of a machine were not moved", { replicaId, error });
      onState("failed");
    }
  }

  async #endMove(): Promise<void> {
    this.#released.abort(new Error("the failed-over machine is let go"));
    await this.#move?.catch(() => undefined);
  }

  async #closeExports(): Promise<void> {
    await this.#exports?.[Symbol.asyncDispose]();
    this.#exports = undefined;
  }
}

/** Removes a machine and, where it was the last one there, its network. */
export async function removeReplica(
  replica: Pick<ReplicaState, "replicaId" | "network">,
  ports: Pick<FailoverPorts, "compute" | "log">,
): Promise<void> {
  await ports.compute.destroy(replica.replicaId);
  if (replica.network !== undefined) await removeNetworkIfUnused(replica.network, ports);
}

/** Removes a network, unless the provider refuses it since other machines are attached. */
export async function removeNetworkIfUnused(
  network: string,
  ports: Pick<FailoverPorts, "compute" | "log">,
): Promise<void> {
  try {
    await ports.compute.removeNetwork(network);
  } catch (error) {
    if (!(error instanceof OsrError) || error.retryable) throw error;
    ports.log.info("a network is kept, since it is in use", { network, error });
  }
}
