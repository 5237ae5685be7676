import { mkdirSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

import type { MobilityStatus } from "@osr/mobility-service/mobility-status";

/** Writes the status so that readers see the old or the new one, never part of it. Not synced: it is worth nothing after a crash. */
export function statusWriter(file: string): (status: MobilityStatus) => Promise<void> {
  mkdirSync(dirname(file), { recursive: true });
  return async (status) => {
    await writeFile(`${file}.new`, `${JSON.stringify(status)}\n`, { mode: 0o644 });
    await rename(`${file}.new`, file);
  };
}
