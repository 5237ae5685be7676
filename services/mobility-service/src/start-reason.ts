import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

/** Whether this machine has been booted since the service ran last: `folder` keeps the boot's id. Only for people to know. */
export function startReasonOf(
  folder: string,
  bootIdFile: string = BOOT_ID_FILE,
): "AGENT_RESTARTED" | "MACHINE_REBOOTED" {
  const bootId = readFileSync(bootIdFile, "utf8");
  const file = join(folder, "boot-id");
  let known: string | undefined;
  try {
    known = readFileSync(file, "utf8");
  } catch {
    // The first run since the folder, which is in memory, was made.
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, bootId, { mode: 0o644 });
  return known === bootId ? "AGENT_RESTARTED" : "MACHINE_REBOOTED";
}
