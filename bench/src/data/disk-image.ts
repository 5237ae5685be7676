import { mkdir, open, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { KIB, MIB, MINUTE_MS } from "@osr/base/units";

import { runCommand } from "../machine/command.ts";
import type { Scale } from "../scale.ts";
import { copyRealFiles } from "./real-files.ts";
import { SeededBytes } from "./seeded-bytes.ts";

/** Seed of the random data in every image. */
export const IMAGE_SEED = "osr-bench-1";
const FILE_SYSTEM_UUID = "33333333-3333-4333-8333-333333333333";
const LIMIT_MS = 10 * MINUTE_MS;

/**
 * Makes a file with an ext4 file system of real files of this host and random data, without mounting anything. No holes:
 * every program reads the same bytes from the page cache. The random data is the same everywhere, the files are the host's.
 */
export async function makeDiskImage(
  path: string,
  scale: Scale,
  signal: AbortSignal,
): Promise<{ readonly fileBytes: number }> {
  const tree = `${path}.tree`;
  const sparse = `${path}.sparse`;
  try {
    await mkdir(tree);
    await writeRandom(join(tree, "random"), scale.randomBytes);
    const fileBytes = await copyRealFiles(tree, scale.fileBytes, signal);
    await makeExt4(sparse, scale.diskBytes, signal, tree);
    await runCommand("cp", ["--sparse=never", sparse, path], { timeoutMs: LIMIT_MS, signal });
    return { fileBytes };
  } finally {
    await rm(tree, { recursive: true, force: true });
    await rm(sparse, { force: true });
  }
}

/** Makes a sparse file with an ext4 file system that holds the content of the folder `tree`, or nothing. */
export async function makeExt4(
  path: string,
  sizeBytes: number,
  signal: AbortSignal,
  tree?: string,
): Promise<void> {
  await writeFile(path, "");
  await truncate(path, sizeBytes);
  await runCommand(
    "mke2fs",
    [
      ["-q", "-F", "-t", "ext4", "-U", FILE_SYSTEM_UUID],
      ["-E", `root_owner=0:0,hash_seed=${FILE_SYSTEM_UUID}`],
      tree === undefined ? [] : ["-d", tree],
      [path, `${Math.floor(sizeBytes / KIB)}k`],
    ].flat(),
    { timeoutMs: LIMIT_MS, signal },
  );
}

async function writeRandom(path: string, sizeBytes: number): Promise<void> {
  const random = new SeededBytes(IMAGE_SEED);
  await using file = await open(path, "wx");
  for (let at = 0; at < sizeBytes; at += MIB)
    await file.write(random.bytes(Math.min(MIB, sizeBytes - at)));
}
