import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { type Server, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { systemErrorCode } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MINUTE_MS } from "@osr/base/units";

import type { Narrator } from "./narrator.ts";
import { distribution, rigSettings, shortHash } from "./settings.ts";

/** Versions of one artefact that are kept; the newest by use. */
const VERSIONS_KEPT_MAX = 2;
const LOCK_POLL_MS = 200;
const BUILD_TIMEOUT_MS = 20 * MINUTE_MS;

export type Artefact = {
  /** `[a-z-]+`. */
  readonly name: string;
  /** Everything that decides the content, beside the Debian release and the architecture. */
  readonly recipe: readonly string[];
  /** Fills `directory`, which is empty. */
  readonly build: (directory: string, signal: AbortSignal) => Promise<void>;
};

/**
 * The folder of an artefact, built where it is not yet there. Built in a folder of its own and renamed at the end, so
 * that it is there whole or not at all; two runs never build one artefact at once. Nothing may write to the result.
 */
export async function cachedArtefact(
  artefact: Artefact,
  narrator: Narrator,
  signal?: AbortSignal,
): Promise<string> {
  const root = join(rigSettings().cacheDirectory, "rig");
  const { id, release } = distribution();
  const key = shortHash(id, release, process.arch, ...artefact.recipe);
  const directory = join(root, `${artefact.name}-${key}`);
  if (await used(directory)) return directory;
  await mkdir(root, { recursive: true });
  await using held = new AsyncDisposableStack();
  held.use(await lock(`osr-rig-${shortHash(root, artefact.name)}`, narrator, signal));
  if (await used(directory)) return directory;
  await removeUnfinished(root, artefact.name);
  const nonce = systemRandomness.bytes(4).toString("hex");
  const unfinished = join(root, `unfinished-${artefact.name}-${nonce}`);
  await mkdir(unfinished);
  try {
    const limit = AbortSignal.timeout(BUILD_TIMEOUT_MS);
    await narrator.step(`building ${artefact.name}`, () =>
      artefact.build(unfinished, signal === undefined ? limit : AbortSignal.any([limit, signal])),
    );
    await rename(unfinished, directory);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    throw error;
  }
  await removeOldVersions(root, artefact.name);
  return directory;
}

/** True where the artefact is there; remembers that it was used. */
async function used(directory: string): Promise<boolean> {
  try {
    const now = new Date();
    await utimes(directory, now, now);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/**
 * A lock that no process can leave behind: an abstract unix socket, which the kernel removes with its owner.
 */
async function lock(
  name: string,
  narrator: Narrator,
  signal?: AbortSignal,
): Promise<AsyncDisposable> {
  for (let attempt = 0; ; attempt++) {
    const server = createServer();
    if (await listening(server, `\0${name}`))
      return {
        [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
      };
    if (attempt === 0) narrator.say("another run is building the same image; waiting for it");
    await wait(LOCK_POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
}

function listening(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) =>
      systemErrorCode(error) === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    server.listen(path, () => resolve(true));
  });
}

async function removeUnfinished(root: string, name: string): Promise<void> {
  for (const entry of await readdir(root))
    if (entry.startsWith(`unfinished-${name}-`))
      await rm(join(root, entry), { recursive: true, force: true });
}

async function removeOldVersions(root: string, name: string): Promise<void> {
  const isVersion = new RegExp(`^${name}-[0-9a-f]{16}$`);
  const paths = (await readdir(root)).filter((e) => isVersion.test(e)).map((e) => join(root, e));
  const times = await Promise.all(paths.map(async (path) => (await stat(path)).mtimeMs));
  const newestFirst = paths
    .map((path, index) => ({ path, mtimeMs: times[index] ?? 0 }))
    .toSorted((a, b) => b.mtimeMs - a.mtimeMs);
  for (const { path } of newestFirst.slice(VERSIONS_KEPT_MAX))
    await rm(path, { recursive: true, force: true });
}
