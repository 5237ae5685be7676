import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { systemErrorCode } from "@osr/base/errors";

/**
 * The names of files below `root` that start with `prefix` and are greater than `after`, ascending in byte order. A
 * directory takes part in the order with its slash (`a-b` < `a/b` < `a0`), and what cannot match is not read.
 */
export async function* namesBelow(
  root: string,
  prefix: string,
  after: string,
): AsyncGenerator<string> {
  yield* walk(root, prefix.slice(0, prefix.lastIndexOf("/") + 1), prefix, after);
}

async function* walk(
  root: string,
  directory: string,
  prefix: string,
  after: string,
): AsyncGenerator<string> {
  const names = (await entriesOf(join(root, directory)))
    .map((entry) => directory + entry)
    .filter((name) => mayMatch(name, prefix, after))
    .toSorted((a, b) => (a < b ? -1 : 1));
  for (const name of names) {
    if (name.endsWith("/")) yield* walk(root, name, prefix, after);
    else yield name;
  }
}

function mayMatch(name: string, prefix: string, after: string): boolean {
  const isDirectory = name.endsWith("/");
  if (!name.startsWith(prefix) && !(isDirectory && prefix.startsWith(name))) return false;
  return name > after || (isDirectory && after.startsWith(name));
}

/** Names in a directory, those of directories with a slash; empty where there is none. */
async function entriesOf(path: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() || entry.isDirectory())
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
}
