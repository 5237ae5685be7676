import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { MoveProgress, NetworkSpec } from "@osr/compute/compute-provider";

import { openDisks, serveDisks } from "./disk-exports.ts";
import { FailedOverMachine, removeNetworkIfUnused } from "./failed-over-machine.ts";
import { FAILOVER_ERRORS } from "./failover-errors.ts";
import { type ReplicaOptions, machineSpecOf, planFailover } from "./failover-plan.ts";
import type { FailoverPorts } from "./failover-ports.ts";
import { type AnswerProbe, waitForAnswer } from "./machine-answer.ts";
import { type PointChoice, choosePoint } from "./point-choice.ts";
import {
  type ReplicaState,
  removeReplicaFolder,
  replicaSocketPath,
  writeReplicaState,
} from "./replica-state.ts";

/** In the order in which they are done; `network`, `answer` and `move` only where they were asked for. */
export type FailoverStep =
  | "choose-point"
  | "preflight"
  | "open-disks"
  | "serve-disks"
  | "network"
  | "create"
  | "start"
  | "answer"
  | "move";

export type FailoverProgress = {
  readonly step: FailoverStep;
  readonly state: "started" | "running" | "done" | "failed";
  /** Since the failover was asked for. */
  readonly elapsedMs: number;
  /** Of step `move` while it runs. */
  readonly move?: MoveProgress;
};

export type FailoverRequest = {
  /** Id of the machine in the compute provider; a new one where absent. */
  readonly replicaId?: Uuid;
  /** The protected machine. */
  readonly machineId: Uuid;
  /** Its replication group; a machine on its own is a group under its own id. */
  readonly groupId: Uuid;
  readonly point: PointChoice;
  readonly replica: ReplicaOptions;
  /** Made before the machine. */
  readonly network?: NetworkSpec;
  /** Wait until the machine answers; without it the failover succeeds as soon as the machine is started. */
  readonly answer?: AnswerProbe;
  /** Move the disks to local storage behind the running machine, after the failover has succeeded. */
  readonly movesToLocalStorage: boolean;
  /** For all steps together, without the move. */
  readonly timeoutMs?: number;
  readonly onProgress?: (progress: FailoverProgress) => void;
  readonly signal?: AbortSignal;
};

const FAILOVER_TIMEOUT_MS_DEFAULT = 15 * MINUTE_MS;

/**
 * Starts a machine from a recovery point, without a control plane: the storage account, the keys and a compute provider
 * are enough, and the time that it takes does not depend on the size of the disks. The source is not touched.
 *
 * Order: everything that can be refused is checked first; then the state file, the exports, the network, the machine.
 * Where a step fails or `signal` is aborted, all that was made is undone, in reverse order, before this rejects.
 */
export async function startFailover(
  request: FailoverRequest,
  ports: FailoverPorts,
): Promise<FailedOverMachine> {
  const timeoutMs = request.timeoutMs ?? FAILOVER_TIMEOUT_MS_DEFAULT;
  const overtime = new AbortController();
  const timer = ports.scheduler.after(timeoutMs, () => {
    const message = `the failover took more than ${timeoutMs} ms`;
    overtime.abort(new OsrError(FAILOVER_ERRORS.FAILOVER_TIMEOUT, message));
  });
  const signals = [overtime.signal, ...(request.signal === undefined ? [] : [request.signal])];
  const undo = new AsyncDisposableStack();
  const failover = new Failover(request, ports, undo, AbortSignal.any(signals));
  try {
    const machine = await failover.run();
    undo.move();
    if (request.movesToLocalStorage)
      machine.beginMove((state, progress) => {
        failover.tell("move", state, progress);
      });
    return machine;
  } catch (error) {
    try {
      await undo.disposeAsync();
    } catch (undoError) {
      ports.log.error("a failed failover could not be undone entirely", { error: undoError });
    }
    throw error;
  } finally {
    timer[Symbol.dispose]();
  }
}

/** One failover under way. */
class Failover {
  readonly #request: FailoverRequest;
  readonly #ports: FailoverPorts;
  readonly #undo: AsyncDisposableStack;
  readonly #signal: AbortSignal;
  readonly #startedMs: number;

  constructor(
    request: FailoverRequest,
    ports: FailoverPorts,
    undo: AsyncDisposableStack,
    signal: AbortSignal,
  ) {
    this.#request = request;
    this.#ports = ports;
    this.#undo = undo;
    this.#signal = signal;
    this.#startedMs = ports.clock.monotonicMs();
  }

  async run(): Promise<FailedOverMachine> {
    const request = this.#request;
    const ports = this.#ports;
    const signal = this.#signal;
    const { compute, runDirectory, randomness } = ports;
    const replicaId = request.replicaId ?? randomUuid(randomness);
    const unixSocketPath = replicaSocketPath(runDirectory, replicaId);

    const point = await this.#step("choose-point", () =>
      choosePoint(request.groupId, request.point, ports, signal),
    );
    const plan = await this.#step("preflight", () =>
      planFailover(request.machineId, point, ports, signal),
    );
    const biosUuid = randomUuid(randomness);
    const spec = machineSpecOf(plan, {
      replicaId,
      biosUuid,
      unixSocketPath,
      options: request.replica,
    });
    const disks = this.#undo.use(
      await this.#step("open-disks", () => openDisks(plan, ports, signal)),
    );

    const state: ReplicaState = {
      replicaId,
      machineId: request.machineId,
      name: spec.name,
      point,
      network: request.network?.name,
      diskNames: spec.disks.map(({ name }) => name),
      isMoving: request.movesToLocalStorage,
      phase: "starting",
    };
    this.#undo.defer(() => removeReplicaFolder(runDirectory, replicaId));
    const exports = await this.#step("serve-disks", async () => {
      await writeReplicaState(runDirectory, state);
      return await serveDisks(disks, unixSocketPath, ports);
    });
    this.#undo.use(exports);

    const { network, answer } = request;
    if (network !== undefined) {
      this.#undo.defer(() => removeNetworkIfUnused(network.name, ports));
      await this.#step("network", () => compute.ensureNetwork(network, signal));
    }
    this.#undo.defer(() => compute.destroy(replicaId));
    await this.#step("create", () => compute.create(spec, signal));
    await this.#step("start", () => compute.start(replicaId, signal));
    if (answer !== undefined)
      await this.#step("answer", () => waitForAnswer(replicaId, answer, ports, signal));
    signal.throwIfAborted();
    const running: ReplicaState = { ...state, phase: "running" };
    await writeReplicaState(runDirectory, running);
    return new FailedOverMachine(running, exports, ports);
  }

  tell(step: FailoverStep, state: FailoverProgress["state"], move?: MoveProgress): void {
    const elapsedMs = this.#ports.clock.monotonicMs() - this.#startedMs;
    this.#request.onProgress?.({ step, state, elapsedMs, ...(move === undefined ? {} : { move }) });
  }

  async #step<T>(step: FailoverStep, work: () => Promise<T>): Promise<T> {
    this.#signal.throwIfAborted();
    this.tell(step, "started");
    try {
      const result = await work();
      this.tell(step, "done");
      return result;
    } catch (error) {
      this.tell(step, "failed");
      throw error;
    }
  }
}
