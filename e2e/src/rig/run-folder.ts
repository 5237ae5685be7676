import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";

import { rigSettings } from "./settings.ts";

/** The folder of one run, removed with everything in it when it is disposed. */
export type RunFolder = AsyncDisposable & {
  readonly path: string;
  /** Makes a folder in it; names are short, since unix sockets live there. */
  folder(name: string): Promise<string>;
};

export async function makeRunFolder(): Promise<RunFolder> {
  const path = await mkdtemp(join(rigSettings().temporaryDirectory, "osr-e2e-"));
  // PostgreSQL runs as a user of its own, who passes through.
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
