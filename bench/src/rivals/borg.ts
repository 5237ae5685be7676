import { basename, dirname, join } from "node:path";

import { must } from "@osr/base/assert";
import { MINUTE_MS } from "@osr/base/units";

import { type CommandOptions, runCommand, timedCommand } from "../machine/command.ts";
import { folderBytes } from "./folder-bytes.ts";
import type { Rival, RivalOptions } from "./rival.ts";

const LIMIT_MS = 15 * MINUTE_MS;

export type BorgOptions = RivalOptions & {
  readonly name: string;
  readonly chunkBytes: number;
  readonly zstdLevel: number;
};

/** borg with chunks of a fixed size, which suit disks best, a key in the repository (AES-256, HMAC-SHA-256), and zstd. */
export function borg(options: BorgOptions): Rival {
  const { directory, imagePath, chunkBytes, zstdLevel, signal, name } = options;
  const repository = join(directory, "repository");
  let archives = 0;
  // Archives hold relative paths.
  const command: CommandOptions = {
    timeoutMs: LIMIT_MS,
    signal,
    directory: dirname(imagePath),
    environment: { BORG_PASSPHRASE: "bench", BORG_BASE_DIR: directory, HOME: directory },
  };
  const image = basename(imagePath);
  const newest = (): string => `${repository}::${must(archives, "something was saved")}`;
  return {
    name,
    async init() {
      await runCommand("borg", ["init", "--encryption", "repokey", repository], command);
    },
    save() {
      archives += 1;
      const chunker = ["--chunker-params", `fixed,${chunkBytes}`];
      const compression = ["--compression", `zstd,${zstdLevel}`];
      return timedCommand(
        "borg",
        ["create", ...compression, ...chunker, `${repository}::${archives}`, image],
        command,
      );
    },
    storedBytes: () => folderBytes(repository),
    async restoreToFile(folder) {
      const timed = await timedCommand("borg", ["extract", newest(), image], {
        ...command,
        directory: folder,
      });
      return { ...timed, path: join(folder, image) };
    },
    restoreToNull: () =>
      timedCommand("borg", ["extract", "--stdout", newest(), image], {
        ...command,
        output: "discard",
      }),
  };
}
