import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, hostname, release, totalmem } from "node:os";

import type { MachineDescription } from "@osr/contracts/agent-protocol";

/** This machine as it describes itself to the process server. */
export function machineFacts(): MachineDescription {
  const osRelease = textOf("/etc/os-release");
  const name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(osRelease)?.[1];
  return {
    hostName: hostname().slice(0, 255),
    biosUuid: textOf("/sys/class/dmi/id/product_uuid").trim().toLowerCase().slice(0, 64),
    operatingSystem: (name ?? "Linux").slice(0, 255),
    kernel: release().slice(0, 255),
    firmware: existsSync("/sys/firmware/efi") ? "uefi" : "bios",
    cpuCount: availableParallelism(),
    memoryBytes: totalmem(),
  };
}

/** Empty where there is no such file, as on machines without SMBIOS. */
function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
