import { join } from "node:path";

import type { Uuid } from "@osr/base/uuid";

/** Where everything of one machine lies. All paths are absolute: QEMU changes its directory to `/`. */
export type MachinePaths = {
  readonly directory: string;
  readonly record: string;
  readonly pidFile: string;
  /** For short conversations, one after the other, of any process that manages the machine. */
  readonly controlSocket: string;
  /** For the one process that supervises the machine. */
  readonly eventsSocket: string;
  readonly consoleLog: string;
  readonly screenshot: string;
  readonly firmwareVariables: string;
  overlay(diskIndex: number): string;
  local(diskIndex: number): string;
};

export function machinePaths(providerDirectory: string, machineId: Uuid): MachinePaths {
  const directory = join(providerDirectory, machineId);
  return {
    directory,
    record: join(directory, "machine.json"),
    pidFile: join(directory, "qemu.pid"),
    controlSocket: join(directory, "control.sock"),
    eventsSocket: join(directory, "events.sock"),
    consoleLog: join(directory, "console.log"),
    screenshot: join(directory, "screenshot.png"),
    firmwareVariables: join(directory, "firmware-variables.fd"),
    overlay: (diskIndex) => join(directory, `disk${diskIndex}.overlay.qcow2`),
    local: (diskIndex) => join(directory, `disk${diskIndex}.local.qcow2`),
  };
}
