import { hasCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import type { MachineState, MachineStatus } from "@osr/compute/compute-provider";

import { COMPUTE_ERRORS } from "./compute-errors.ts";
import type { MachinePaths } from "./machine-paths.ts";
import type { MachineRecord } from "./machine-record.ts";
import { queryDevices, queryRunState, withControl } from "./qemu-control.ts";
import type { QmpClient } from "./qmp-client.ts";

export type MachineFacts = {
  readonly record: MachineRecord;
  readonly paths: MachinePaths;
  readonly isAlive: boolean;
  /** The host was restarted since the machine was. */
  readonly isOtherBoot: boolean;
  readonly hasPanicked: boolean;
  readonly scheduler: Scheduler;
};

type State = { readonly state: MachineState; readonly reason?: string };

/** The state of a machine, from its record, its process and QEMU's own word. */
export async function machineStatus(facts: MachineFacts): Promise<MachineStatus> {
  const { record, paths, scheduler } = facts;
  const { machineId, name } = record.spec;
  const base = { machineId, name, localDisks: record.localDisks };
  if (!facts.isAlive) return { ...base, ...stateOfEnded(facts) };
  try {
    const state = await withControl(paths, scheduler, (qmp) => stateOfRunning(facts, qmp));
    return { ...base, ...state };
  } catch (error) {
    if (!hasCode(error, COMPUTE_ERRORS.QMP_UNAVAILABLE)) throw error;
    return { ...base, state: "failed", reason: `QEMU does not answer: ${error.message}` };
  }
}

function stateOfEnded({ record, isOtherBoot }: MachineFacts): State {
  if (record.phase !== "started")
    return {
      state: record.phase,
      ...(record.reason === undefined ? {} : { reason: record.reason }),
    };
  return isOtherBoot
    ? { state: "stopped", reason: "the host was restarted" }
    : { state: "failed", reason: record.reason ?? "QEMU ended though nobody asked for it" };
}

async function stateOfRunning(facts: MachineFacts, qmp: QmpClient): Promise<State> {
  const state = await queryRunState(qmp);
  if (state === "shutdown") return { state: "stopped", reason: "the guest turned itself off" };
  if (state === "io-error") {
    const { disks } = facts.record.spec;
    const devices = await queryDevices(qmp, disks.length);
    const failing = disks.filter((_, index) => devices[index]?.ioStatus !== "ok");
    const isFull = devices.some((device) => device?.ioStatus === "nospace");
    const names = failing.map(({ name }) => name).join(", ");
    const why = isFull ? "the host has no space left" : "it cannot be read or written";
    return { state: "failed", reason: `the machine waits for disk ${names}: ${why}` };
  }
  if (facts.hasPanicked) return { state: "failed", reason: "the guest's kernel has panicked" };
  return { state: "running" };
}
