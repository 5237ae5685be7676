import { rm } from "node:fs/promises";
import { isAbsolute, join } from "node:path";

import { canonicalJson } from "@osr/base/canonical-json";
import type { Clock } from "@osr/base/clock";
import { OsrError, messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import type { Uuid } from "@osr/base/uuid";
import type {
  ComputeProvider,
  MachineSpec,
  MachineStatus,
  MoveProgress,
  NetworkSpec,
  ProbeOptions,
} from "@osr/compute/compute-provider";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { drainConsole, readConsole } from "./console-log.ts";
import { KeyedLock } from "./keyed-lock.ts";
import { type Accelerator, cachedProbe } from "./kvm-probe.ts";
import { type LocalMove, deleteOverlay, moveDiskToLocal, settlePivots } from "./local-storage.ts";
import { checkMachineSpec } from "./machine-limits.ts";
import type { MachineRecord } from "./machine-record.ts";
import { machineStatus } from "./machine-status.ts";
import { MachineStore, isSameMachine } from "./machine-store.ts";
import { MachineSupervisor } from "./machine-supervisor.ts";
import {
  type ProcessIdentity,
  bootIdOf,
  daemonOf,
  isAlive,
  killProcess,
} from "./process-identity.ts";
import { queryRunState, withControl } from "./qemu-control.ts";
import {
  KILL_TIMEOUT_MS,
  QEMU,
  endQemu,
  launchQemu,
  prepareFiles,
  removeRuntimeFiles,
  runningProcess,
} from "./qemu-process.ts";
import { takeScreenshot } from "./screenshot.ts";
import { VirtualNetworks } from "./virtual-network.ts";

export type QemuProviderOptions = {
  /** Absolute, at most 57 bytes: it holds unix sockets. Everything of the provider lies in it. */
  readonly directory: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** How code is executed; the probe decides where it is absent. */
  readonly accelerator?: Accelerator["kind"];
};

/** A unix socket's path has at most 107 bytes; `/`, a UUID, `/` and `control.sock` take 50. */
const DIRECTORY_BYTES_MAX = 57;
const STOP_POLL_MS = 100;

/** Runs machines as QEMU processes of this host. Opening is cheap; machines of a predecessor are adopted by the first call. */
export function createQemuProvider(options: QemuProviderOptions): ComputeProvider {
  const isFit =
    isAbsolute(options.directory) && Buffer.byteLength(options.directory) <= DIRECTORY_BYTES_MAX;
  if (!isFit)
    throw new OsrError(
      COMPUTE_ERRORS.COMPUTE_DIRECTORY_UNFIT,
      `${options.directory} is not an absolute path of at most ${DIRECTORY_BYTES_MAX} bytes`,
    );
  return new QemuProvider(options);
}

class QemuProvider implements ComputeProvider {
  readonly #options: QemuProviderOptions;
  readonly #machines: MachineStore;
  readonly #networks: VirtualNetworks;
  readonly #locks = new KeyedLock();
  readonly #moveLocks = new KeyedLock();
  readonly #supervisors = new Map<Uuid, MachineSupervisor>();
  readonly #moves = new Map<Uuid, AbortController>();
  /** How the QEMU of each machine ended, of those that were started here. */
  readonly #endings = new Map<Uuid, string>();
  readonly #probe = cachedProbe({ qemu: QEMU });
  #adopted: Promise<void> | undefined;

  constructor(options: QemuProviderOptions) {
    this.#options = options;
    this.#machines = new MachineStore(options.directory);
    this.#networks = new VirtualNetworks(join(options.directory, "networks"), options.scheduler);
  }

  async ensureNetwork(spec: NetworkSpec, signal?: AbortSignal): Promise<void> {
    await this.#locks.run(`network ${spec.name}`, () => this.#networks.ensure(spec, signal));
  }

  async removeNetwork(name: string): Promise<void> {
    await this.#locks.run(`network ${name}`, async () => {
      const users = (await this.#machines.list()).filter(({ spec }) =>
        spec.nics.some((nic) => nic.network === name),
      );
      if (users.length > 0)
        throw new OsrError(
          COMPUTE_ERRORS.NETWORK_IN_USE,
          `machines are attached to network ${name}: ${users.map(({ spec }) => spec.name).join(", ")}`,
        );
      await this.#networks.remove(name);
    });
  }

  async create(spec: MachineSpec, signal?: AbortSignal): Promise<void> {
    checkMachineSpec(spec);
    await this.#locked(spec.machineId, async () => {
      const known = await this.#machines.read(spec.machineId);
      if (known === undefined)
        for (const nic of spec.nics) await this.#networks.demand(nic.network);
      signal?.throwIfAborted();
      const record = known === undefined ? newRecord(spec) : await this.#movedSources(known, spec);
      if (record !== known) await this.#machines.write(record);
      await prepareFiles(record, this.#machines.pathsOf(spec.machineId));
    });
  }

  async start(machineId: Uuid, signal?: AbortSignal): Promise<void> {
    await this.#locked(machineId, async () => {
      const record = await this.#machines.demand(machineId);
      const paths = this.#machines.pathsOf(machineId);
      const process = await runningProcess(record, paths);
      if (process !== undefined) {
        const state = await withControl(paths, this.#options.scheduler, async (qmp) => {
          const runState = await queryRunState(qmp);
          if (runState === "paused" || runState === "io-error") await qmp.execute("cont");
          return runState;
        });
        if (state !== "shutdown") return;
        await this.#end(record, process);
      }
      signal?.throwIfAborted();
      await this.#launch(record, signal);
    });
  }

  async stop(machineId: Uuid, graceMs: number): Promise<void> {
    await this.#locked(machineId, async () => {
      const record = await this.#machines.demand(machineId);
      if (record.phase !== "started") return;
      const process = await runningProcess(record, this.#machines.pathsOf(machineId));
      if (process !== undefined && graceMs > 0) await this.#powerDown(record, process, graceMs);
      await this.#end(record, process);
    });
  }

  async destroy(machineId: Uuid): Promise<void> {
    this.#moves.get(machineId)?.abort(machineGone(machineId));
    // Whatever holds the lock waits for QEMU at most, and ends soon after it.
    await this.#kill(machineId);
    await this.#locked(machineId, async () => {
      await this.#kill(machineId);
      for (const network of await this.#networks.list())
        await this.#networks.detach(network, machineId);
      await rm(this.#machines.pathsOf(machineId).directory, { recursive: true, force: true });
    });
  }

  async status(machineId: Uuid): Promise<MachineStatus> {
    await this.#adopt();
    return this.#statusOf(await this.#machines.demand(machineId));
  }

  async list(): Promise<readonly MachineStatus[]> {
    await this.#adopt();
    const records = await this.#machines.list();
    return Promise.all(records.map((record) => this.#statusOf(record)));
  }

  async console(machineId: Uuid, bytesMax: number): Promise<string> {
    await this.#adopt();
    const record = await this.#machines.demand(machineId);
    const paths = this.#machines.pathsOf(machineId);
    // A machine that ends just now has its console drained by the one who ends it.
    if ((await runningProcess(record, paths)) !== undefined)
      await withControl(paths, this.#options.scheduler, (qmp) =>
        drainConsole(qmp, paths.consoleLog),
      ).catch((error: unknown) =>
        this.#options.log.debug("console", { machineId, error: messageOf(error) }),
      );
    return readConsole(paths.consoleLog, bytesMax);
  }

  async screenshot(machineId: Uuid): Promise<Buffer> {
    return await this.#locked(machineId, async () => {
      const record = await this.#machines.demand(machineId);
      const paths = this.#machines.pathsOf(machineId);
      if ((await runningProcess(record, paths)) === undefined)
        throw new OsrError(COMPUTE_ERRORS.MACHINE_NOT_RUNNING, `machine ${machineId} does not run`);
      return takeScreenshot(paths, this.#options.scheduler);
    });
  }

  async moveToLocalStorage(
    machineId: Uuid,
    onProgress: (progress: MoveProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#adopt();
    await this.#moveLocks.run(machineId, async () => {
      const leaving = new AbortController();
      this.#moves.set(machineId, leaving);
      try {
        await this.#moveDisks(machineId, onProgress, leaving.signal, signal);
      } finally {
        this.#moves.delete(machineId);
      }
    });
  }

  async probe(
    network: string,
    address: string,
    port: number,
    request: Buffer,
    options: ProbeOptions,
  ): Promise<Buffer> {
    return this.#networks.probe(network, address, port, request, options);
  }

  /** Moves to local storage go on in QEMU; a successor takes them up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#adopted;
    for (const [machineId, leaving] of this.#moves) {
      leaving.abort(new OsrError(COMPUTE_ERRORS.MOVE_FAILED, "the provider was closed"));
      await this.#moveLocks.run(machineId, async () => undefined);
    }
    const supervisors = [...this.#supervisors.values()];
    this.#supervisors.clear();
    await Promise.all(supervisors.map((supervisor) => supervisor[Symbol.asyncDispose]()));
  }

  async #locked<T>(machineId: Uuid, task: () => Promise<T>): Promise<T> {
    await this.#adopt();
    return this.#locks.run(machineId, task);
  }

  /** Takes over the machines that a predecessor has left running. */
  async #adopt(): Promise<void> {
    this.#adopted ??= (async () => {
      for (const record of await this.#machines.list())
        await this.#adoptOne(record).catch((error: unknown) =>
          this.#options.log.warn("adopting a machine", {
            machineId: record.spec.machineId,
            error: messageOf(error),
          }),
        );
    })();
    await this.#adopted;
  }

  async #adoptOne(record: MachineRecord): Promise<void> {
    const { machineId } = record.spec;
    const process = await runningProcess(record, this.#machines.pathsOf(machineId));
    if (process === undefined) return;
    if (record.process === undefined) await this.#machines.write({ ...record, process });
    const { signal } = new AbortController();
    await settlePivots(record.spec.disks.map((_, index) => this.#moveOf(record, index, signal)));
    this.#supervise(record, process);
    this.#options.log.info("machine adopted", { machineId, pid: process.pid });
  }

  async #movedSources(known: MachineRecord, spec: MachineSpec): Promise<MachineRecord> {
    if (canonicalJson(known.spec) === canonicalJson(spec)) return known;
    const runs = await runningProcess(known, this.#machines.pathsOf(spec.machineId));
    if (runs !== undefined || !isSameMachine(known.spec, spec))
      throw new OsrError(
        COMPUTE_ERRORS.MACHINE_DIFFERENT,
        runs === undefined
          ? `machine ${spec.machineId} exists with another shape`
          : `machine ${spec.machineId} runs, so that its sources cannot move`,
      );
    return { ...known, spec };
  }

  async #launch(record: MachineRecord, signal: AbortSignal | undefined): Promise<void> {
    const { spec } = record;
    const paths = this.#machines.pathsOf(spec.machineId);
    const firmware = await prepareFiles(record, paths);
    const accelerator = this.#options.accelerator ?? (await this.#probe()).kind;
    const taps: string[] = [];
    for (const [index, nic] of spec.nics.entries())
      taps.push(await this.#networks.attach(nic.network, spec.machineId, index));
    const started = without(record, "started");
    await this.#machines.write(started);
    this.#endings.delete(spec.machineId);
    try {
      const { scheduler } = this.#options;
      const launch = { record, paths, accelerator, firmware, taps, scheduler, signal };
      const { process, ended } = await launchQemu(launch);
      ended.catch((error: unknown) => this.#endings.set(spec.machineId, messageOf(error)));
      await this.#machines.write({ ...started, process });
      this.#supervise(record, process);
      const facts = { machineId: spec.machineId, name: spec.name, pid: process.pid, accelerator };
      this.#options.log.info("machine started", facts);
    } catch (error) {
      await this.#kill(spec.machineId);
      await this.#detachAll(record);
      await this.#machines.write({ ...without(record, "stopped"), reason: messageOf(error) });
      throw error;
    }
  }

  async #powerDown(
    record: MachineRecord,
    process: ProcessIdentity,
    graceMs: number,
  ): Promise<void> {
    const { clock, scheduler } = this.#options;
    const paths = this.#machines.pathsOf(record.spec.machineId);
    const endMs = clock.monotonicMs() + graceMs;
    await withControl(paths, scheduler, (qmp) => qmp.execute("system_powerdown"));
    while (clock.monotonicMs() < endMs && (await isAlive(process))) {
      if ((await withControl(paths, scheduler, queryRunState)) === "shutdown") return;
      await scheduler.sleep(STOP_POLL_MS);
    }
  }

  /** Ends QEMU and leaves the machine stopped, with its disks as they are. */
  async #end(record: MachineRecord, process: ProcessIdentity | undefined): Promise<void> {
    const paths = this.#machines.pathsOf(record.spec.machineId);
    if (process !== undefined) await endQemu(process, paths, this.#options.scheduler);
    await removeRuntimeFiles(paths);
    await this.#detachAll(record);
    const latest = await this.#machines.demand(record.spec.machineId);
    await this.#machines.write(without(latest, "stopped"));
  }

  async #kill(machineId: Uuid): Promise<void> {
    const paths = this.#machines.pathsOf(machineId);
    const recorded = (await this.#machines.read(machineId).catch(() => undefined))?.process;
    for (const process of [recorded, await daemonOf(paths.pidFile)])
      if (process !== undefined)
        await killProcess(process, this.#options.scheduler, KILL_TIMEOUT_MS);
  }

  async #detachAll({ spec }: MachineRecord): Promise<void> {
    for (const network of new Set(spec.nics.map((nic) => nic.network)))
      await this.#networks.detach(network, spec.machineId);
  }

  #supervise(record: MachineRecord, process: ProcessIdentity): void {
    const { machineId, name } = record.spec;
    const supervisor: MachineSupervisor = new MachineSupervisor({
      paths: this.#machines.pathsOf(machineId),
      process,
      scheduler: this.#options.scheduler,
      log: this.#options.log.child({ machineId, name }),
      onGuestOff: () => this.#locked(machineId, () => this.#finish(machineId, process)),
      onEnded: async () => {
        if (this.#supervisors.get(machineId) === supervisor) this.#supervisors.delete(machineId);
        await this.#locked(machineId, () => this.#reportEnd(machineId, process));
      },
    });
    this.#supervisors.set(machineId, supervisor);
  }

  /** The guest turned itself off. */
  async #finish(machineId: Uuid, process: ProcessIdentity): Promise<void> {
    const record = await this.#machines.read(machineId);
    if (record?.phase === "started" && (await isAlive(process))) await this.#end(record, process);
  }

  /** QEMU has ended; where nobody asked for that, the machine failed. */
  async #reportEnd(machineId: Uuid, process: ProcessIdentity): Promise<void> {
    const record = await this.#machines.read(machineId);
    if (record?.phase !== "started" || record.process?.pid !== process.pid) return;
    const how = this.#endings.get(machineId);
    const reason = `QEMU ended though nobody asked for it${how === undefined ? "" : `: ${how}`}`;
    this.#options.log.error(reason, { machineId });
    await this.#machines.write({ ...record, reason });
    await this.#detachAll(record);
  }

  async #statusOf(record: MachineRecord): Promise<MachineStatus> {
    const paths = this.#machines.pathsOf(record.spec.machineId);
    const hasPanicked = this.#supervisors.get(record.spec.machineId)?.guestHasPanicked ?? false;
    const process = await runningProcess(record, paths);
    const isOtherBoot =
      record.process !== undefined && record.process.bootId !== (await bootIdOf());
    return machineStatus({
      record,
      paths,
      isAlive: process !== undefined,
      isOtherBoot,
      hasPanicked,
      scheduler: this.#options.scheduler,
    });
  }

  async #moveDisks(
    machineId: Uuid,
    onProgress: (progress: MoveProgress) => void,
    leaving: AbortSignal,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const record = await this.#machines.demand(machineId);
    if ((await runningProcess(record, this.#machines.pathsOf(machineId))) === undefined)
      throw new OsrError(COMPUTE_ERRORS.MACHINE_NOT_RUNNING, `machine ${machineId} does not run`);
    for (const [index, disk] of record.spec.disks.entries()) {
      const move = this.#moveOf(record, index, leaving);
      const { localDisks } = await this.#machines.demand(machineId);
      if (!localDisks.includes(disk.name)) await moveDiskToLocal(move, onProgress, signal);
      else await deleteOverlay(move);
    }
  }

  #moveOf({ spec }: MachineRecord, diskIndex: number, leaving: AbortSignal): LocalMove {
    const { machineId } = spec;
    return {
      spec,
      diskIndex,
      paths: this.#machines.pathsOf(machineId),
      scheduler: this.#options.scheduler,
      leaving,
      exclusively: (task) => this.#locks.run(machineId, task),
      recordLocal: () => this.#recordLocal(machineId, spec.disks[diskIndex]?.name ?? ""),
    };
  }

  async #recordLocal(machineId: Uuid, diskName: string): Promise<void> {
    const latest = await this.#machines.demand(machineId);
    const localDisks = [...new Set([...latest.localDisks, diskName])];
    await this.#machines.write({ ...latest, localDisks });
  }
}

function newRecord(spec: MachineSpec): MachineRecord {
  return { version: 1, spec, phase: "created", localDisks: [] };
}

/** The record in another phase, without what belonged to the phase before. */
function without(record: MachineRecord, phase: MachineRecord["phase"]): MachineRecord {
  const { version, spec, localDisks } = record;
  return { version, spec, phase, localDisks };
}

function machineGone(machineId: Uuid): OsrError {
  return new OsrError(COMPUTE_ERRORS.MACHINE_UNKNOWN, `machine ${machineId} was destroyed`);
}
