import { copyFile, mkdir, readdir, stat } from "node:fs/promises";
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
  const files = await listFiles(signal);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const share = Math.min(1, bytesGoal / total);
  let seen = 0;
  let copied = 0;
  for (const { path, bytes } of files) {
    seen += bytes;
    if (copied + bytes > seen * share) continue;
    signal.throwIfAborted();
    const copy = join(target, path);
    await mkdir(dirname(copy), { recursive: true });
    await copyFile(path, copy);
    copied += bytes;
  }
  return copied;
}

type RealFile = { readonly path: string; readonly bytes: number };

async function listFiles(signal: AbortSignal): Promise<readonly RealFile[]> {
  const files: RealFile[] = [];
  for (const source of SOURCES) await collect(source, files, signal);
  return files;
}

async function collect(folder: string, files: RealFile[], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const entries = await readdir(folder, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await collect(path, files, signal);
    if (!entry.isFile()) continue;
    const { size } = await stat(path);
    if (size > 0 && size <= FILE_BYTES_MAX) files.push({ path, bytes: size });
  }
}
