import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { systemRandomness } from "@osr/base/platform/system-randomness";

import { openDirectoryStore } from "../directory-store.ts";
import type { ObjectStore } from "../object-store.ts";

export type TemporaryStore = AsyncDisposable & {
  readonly store: ObjectStore;
  /** A directory for the test's own files. */
  readonly directory: string;
};

/** A directory store for one test, removed with it. */
export async function temporaryStore(): Promise<TemporaryStore> {
  const directory = await mkdtemp(join(tmpdir(), "osr-repository-"));
  const store = await openDirectoryStore(join(directory, "store"), {
    access: "write",
    randomness: systemRandomness,
  });
  return {
    store,
    directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
