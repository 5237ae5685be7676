import { readdirSync, statSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

import { MIB } from "@osr/base/units";

/** Folders with what a server has: programs, libraries, text, pictures. In this order until there is enough. */
const SOURCES = ["/usr/bin", "/usr/lib", "/usr/share"] as const;
const FILE_BYTES_MAX = 40 * MIB;

/**
 * Copies files of the host, in the order of their paths, into `target` until they are `bytesGoal` together. Returns how
 * many bytes there are, less where the host has less..
 */
export async function copyRealFiles(
  target: string,
  bytesGoal: number,
  signal: AbortSignal,
): Promise<number> {
  const files = listFiles(signal);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const share = Math.min(1, bytesGoal / total);
  let seen = 0;
  let copied = 0;
  for (const { path, bytes } of files) {
    const isDue = copied <= seen * share && copied + bytes <= bytesGoal;
    seen += bytes;
    if (!isDue) continue;
    signal.throwIfAborted();
    const copy = join(target, path);
    await mkdir(dirname(copy), { recursive: true });
    await copyFile(path, copy);
    copied += bytes;
  }
  return copied;
}

type RealFile = { readonly path: string; readonly bytes: number };

// Synchronous: an asynchronous stat of each of 100,000 files takes several times as long.
function listFiles(signal: AbortSignal): readonly RealFile[] {
  const files: RealFile[] = [];
  for (const source of SOURCES) collect(source, files, signal);
  return files;
}

function collect(folder: string, files: RealFile[], signal: AbortSignal): void {
  signal.throwIfAborted();
  const entries = readdirSync(folder, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) collect(path, files, signal);
    if (!entry.isFile()) continue;
    const { size } = statSync(path);
    if (size > 0 && size <= FILE_BYTES_MAX) files.push({ path, bytes: size });
  }
}
