import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { Log } from "@osr/base/log";
import { mapMemory } from "@osr/block-device/mapped-memory";
import type { KeptOptions } from "@osr/mobility-service/kept-start";
import { KeptState } from "@osr/mobility-service/kept-state";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";

const BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id";

/** Disposed of at a clean end: then nobody tracks, and there is nothing to go on with. */
export type KeptStateFile = Disposable & { readonly kept: KeptOptions | undefined };

export function keptStateFile(folder: string): string {
  return join(folder, "dirty-state");
}

/** What the agent knows, in a file in memory that outlives it; see KeptState. Without it, every start compares the disks. */
export function openKeptStateFile(folder: string, log: Log): KeptStateFile {
  const file = keptStateFile(folder);
  try {
    const memory = mapMemory(file, KeptState.bytes(REPLICATION_LIMITS));
    return {
      kept: { memory, label: readFileSync(BOOT_ID_FILE, "utf8").trim() },
      [Symbol.dispose]: () => {
        memory[Symbol.dispose]();
        rmSync(file, { force: true });
      },
    };
  } catch (error) {
    log.warn("a restart will compare the disks: nothing is kept over it", { error });
    return { kept: undefined, [Symbol.dispose]: () => undefined };
  }
}
