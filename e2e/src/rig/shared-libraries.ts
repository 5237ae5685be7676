import { copyFile, mkdir, realpath } from "node:fs/promises";
import { basename, join } from "node:path";

import { MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./commands.ts";

/** Absolute paths of the shared libraries that a program needs, the loader among them. */
export async function sharedLibraries(program: string, signal: AbortSignal): Promise<string[]> {
  const text = await runCommand("ldd", [program], { timeoutMs: MINUTE_MS, signal });
  return [...text.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path ?? "");
}

/** Copies the libraries of `programs` into `directory`, under the names that the loader looks for. */
export async function copySharedLibraries(
  programs: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const program of programs)
    for (const library of await sharedLibraries(program, signal))
      await copyFile(await realpath(library), join(directory, basename(library)));
}
