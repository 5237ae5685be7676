import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Memory as a file system. */
export const MEMORY_FOLDER = "/dev/shm";

/** The folder of one run, removed with everything in it when it is disposed. */
export type RunFolder = AsyncDisposable & {
  readonly path: string;
  /** Makes a folder in it. Names are short, since unix sockets live there. */
  folder(name: string): Promise<string>;
};

export async function makeRunFolder(parent: string = tmpdir()): Promise<RunFolder> {
  const path = await mkdtemp(join(parent, "osr-bench-"));
  // The database of the freeze suite runs as a user of its own and must get to its disk.
  await chmod(path, 0o711);
  return {
    path,
    async folder(name) {
      await mkdir(join(path, name), { recursive: true });
      return join(path, name);
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
