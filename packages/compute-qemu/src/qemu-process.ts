import { chmod, rm } from "node:fs/promises";

import { must } from "@osr/base/assert";
import { hasCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

import { ensureImage } from "./block-nodes.ts";
import { startInBackground } from "./command.ts";
import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { drainConsole } from "./console-log.ts";
import { type UefiFirmware, ensureFirmwareVariables, findUefiFirmware } from "./firmware.ts";
import type { Accelerator } from "./kvm-probe.ts";
import type { MachinePaths } from "./machine-paths.ts";
import type { MachineRecord } from "./machine-record.ts";
import {
  type ProcessIdentity,
  daemonOf,
  hasEnded,
  isAlive,
  killProcess,
} from "./process-identity.ts";
import { withinNamespace } from "./network-namespace.ts";
import { qemuArguments } from "./qemu-arguments.ts";
import { withControl } from "./qemu-control.ts";
import { connectQmp } from "./qmp-client.ts";

/** The command of the one architecture that machines have. */
export const QEMU = "qemu-system-x86_64";

/** With NBD sources that answer late, opening the disks takes its time. */
const START_TIMEOUT_MS = 60 * SECOND_MS;
const START_POLL_MS = 20;
const QUIT_TIMEOUT_MS = 10 * SECOND_MS;
export const KILL_TIMEOUT_MS = 10 * SECOND_MS;

/** Makes the files that a machine needs before it starts; those that are there are kept. */
export async function prepareFiles(
  record: MachineRecord,
  paths: MachinePaths,
): Promise<UefiFirmware | undefined> {
  for (const [index, disk] of record.spec.disks.entries())
    if (!record.localDisks.includes(disk.name))
      await ensureImage(paths.overlay(index), disk.sizeBytes);
  if (record.spec.firmware === "bios") return undefined;
  const firmware = await findUefiFirmware();
  await ensureFirmwareVariables(firmware, paths.firmwareVariables);
  return firmware;
}

export type Launch = {
  readonly record: MachineRecord;
  readonly paths: MachinePaths;
  readonly accelerator: Accelerator["kind"];
  readonly firmware: UefiFirmware | undefined;
  readonly taps: readonly string[];
  readonly scheduler: Scheduler;
  readonly signal?: AbortSignal | undefined;
};

export type LaunchedQemu = {
  readonly process: ProcessIdentity;
  /** Rejects with an error that says how, when QEMU ends while this process still runs. */
  readonly ended: Promise<never>;
};

/**
 * Starts QEMU as a process that outlives this one, and resolves once its disks are open and it executes the machine. A
 * machine with NICs runs in the namespace of its first one's network, where its taps are. QEMU's own way into the
 * background forks after the sandbox has forbidden that, so that it is started in the background here.
 */
export async function launchQemu(launch: Launch): Promise<LaunchedQemu> {
  const { record, paths, scheduler } = launch;
  const command = [QEMU, ...qemuArguments({ ...launch, ...record })];
  const [nic] = record.spec.nics;
  const [file = "", ...args] = nic === undefined ? command : withinNamespace(nic.network, command);
  const background = startInBackground(file, args);
  const starting = new AbortController();
  const signals = launch.signal === undefined ? [] : [launch.signal];
  const signal = AbortSignal.any([starting.signal, ...signals]);
  try {
    await Promise.race([background.ended, untilGreeted(paths, scheduler, signal)]);
    // QEMU makes sockets with the rights of its own mask. The directory lets nobody in meanwhile.
    for (const socket of [paths.controlSocket, paths.eventsSocket]) await chmod(socket, 0o600);
    const process = must(await daemonOf(paths.pidFile), "QEMU runs once it has greeted");
    return { process, ended: background.ended };
  } catch (error) {
    background.kill();
    throw error;
  } finally {
    starting.abort();
    background.release();
  }
}

/** QEMU greets on its sockets when it has opened everything and begins to execute the machine. */
async function untilGreeted(
  paths: MachinePaths,
  scheduler: Scheduler,
  signal: AbortSignal,
): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += START_POLL_MS) {
    try {
      const { controlSocket: socketPath } = paths;
      const qmp = await connectQmp({ socketPath, scheduler, timeoutMs: START_TIMEOUT_MS, signal });
      qmp[Symbol.dispose]();
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (!hasCode(error, COMPUTE_ERRORS.QMP_UNAVAILABLE) || waitedMs > START_TIMEOUT_MS)
        throw error;
    }
    await scheduler.sleep(START_POLL_MS, signal);
  }
}

/** The QEMU process of a machine, if it runs. */
export async function runningProcess(
  record: MachineRecord,
  paths: MachinePaths,
): Promise<ProcessIdentity | undefined> {
  if (record.phase !== "started") return undefined;
  const { process } = record;
  if (process === undefined) return daemonOf(paths.pidFile);
  return (await isAlive(process)) ? process : undefined;
}

/** Ends QEMU: its disks are flushed and the console is kept, where it still answers; else it is killed. */
export async function endQemu(
  process: ProcessIdentity,
  paths: MachinePaths,
  scheduler: Scheduler,
): Promise<void> {
  try {
    await withControl(paths, scheduler, async (qmp) => {
      await drainConsole(qmp, paths.consoleLog);
      await qmp.execute("quit");
    });
    if (await hasEnded(process, scheduler, QUIT_TIMEOUT_MS)) return;
  } catch (error) {
    if (!hasCode(error, COMPUTE_ERRORS.QMP_UNAVAILABLE)) throw error;
  }
  await killProcess(process, scheduler, KILL_TIMEOUT_MS);
}

/** Removes what a process that has ended, or was killed, leaves in the machine's directory. */
export async function removeRuntimeFiles(paths: MachinePaths): Promise<void> {
  for (const path of [paths.pidFile, paths.controlSocket, paths.eventsSocket])
    await rm(path, { force: true });
}
