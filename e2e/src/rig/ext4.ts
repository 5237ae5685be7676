import { truncate, writeFile } from "node:fs/promises";

import { KIB, MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./commands.ts";

export type Ext4Options = {
  /** Of the file; of the file system where `offsetBytes` is not given. */
  readonly sizeBytes: number;
  readonly label: string;
  readonly uuid?: string;
  /** Folder whose content goes into the file system; owners and modes as they are, the root owned by root. */
  readonly tree?: string;
  /** The file exists, with a partition table, and the file system goes to [offset, offset + bytes). */
  readonly partition?: { readonly offsetBytes: number; readonly bytes: number };
  readonly signal?: AbortSignal | undefined;
};

/** Makes a file with an ext4 file system in it, sparse, without mounting anything. */
export async function makeExt4(path: string, options: Ext4Options): Promise<void> {
  const { partition, sizeBytes, tree, uuid, label, signal } = options;
  if (partition === undefined) {
    await writeFile(path, "");
    await truncate(path, sizeBytes);
  }
  const extended = ["root_owner=0:0"];
  if (partition !== undefined) extended.push(`offset=${partition.offsetBytes}`);
  await runCommand(
    "mke2fs",
    [
      ["-q", "-F", "-t", "ext4", "-L", label, "-E", extended.join(",")],
      uuid === undefined ? [] : ["-U", uuid],
      tree === undefined ? [] : ["-d", tree],
      [path, `${Math.floor((partition?.bytes ?? sizeBytes) / KIB)}k`],
    ].flat(),
    { timeoutMs: 5 * MINUTE_MS, signal },
  );
}
