import { join } from "node:path";

import { MINUTE_MS } from "@osr/base/units";

import { runCommand, timedCommand } from "../machine/command.ts";
import { folderBytes } from "./folder-bytes.ts";
import type { Rival, RivalOptions } from "./rival.ts";

const LIMIT_MS = 15 * MINUTE_MS;

/** restic with its newest repository format, which compresses, and without a cache that would outlive the run. */
export function restic(options: RivalOptions): Rival {
  const { directory, imagePath, signal } = options;
  const repository = join(directory, "repository");
  const command = {
    timeoutMs: LIMIT_MS,
    signal,
    environment: { RESTIC_PASSWORD: "bench", HOME: directory },
  };
  const common = ["--quiet", "--no-cache", "--repo", repository];
  return {
    name: "restic",
    async init() {
      await runCommand("restic", [...common, "init", "--repository-version", "2"], command);
    },
    save: () => timedCommand("restic", [...common, "backup", imagePath], command),
    storedBytes: () => folderBytes(repository),
    async restoreToFile(folder) {
      const timed = await timedCommand(
        "restic",
        [...common, "restore", "latest", "--target", folder],
        command,
      );
      return { ...timed, path: join(folder, imagePath) };
    },
    restoreToNull: () =>
      timedCommand("restic", [...common, "dump", "latest", imagePath], {
        ...command,
        output: "discard",
      }),
  };
}
