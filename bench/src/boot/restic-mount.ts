import { type FileHandle, open } from "node:fs/promises";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, hasEnded, runCommand, spawnTied } from "../machine/command.ts";

const POLL_MS = 2;

/** The newest snapshot of a restic repository, mounted with FUSE; disposing it unmounts. */
export type ResticMount = AsyncDisposable & { readonly file: FileHandle };

export async function mountRestic(
  directory: string,
  imagePath: string,
  signal: AbortSignal,
): Promise<ResticMount> {
  const mountPoint = join(directory, "mount");
  await mkdir(mountPoint, { recursive: true });
  const child = spawnTied(
    "restic",
    ["--quiet", "--no-cache", "--repo", join(directory, "repository"), "mount", mountPoint],
    { stdio: "ignore", env: { ...process.env, RESTIC_PASSWORD: "bench", HOME: directory } },
  );
  const path = join(mountPoint, "snapshots", "latest", imagePath);
  const end = performance.now() + MINUTE_MS;
  const stop = async (): Promise<void> => {
    // It unmounts when it is told to end.
    await endChild(child, 10 * SECOND_MS);
    const own = AbortSignal.timeout(MINUTE_MS);
    await runCommand("umount", ["--lazy", "--quiet", mountPoint], {
      timeoutMs: MINUTE_MS,
      signal: own,
    }).catch(() => undefined);
  };
  try {
    for (;;) {
      signal.throwIfAborted();
      const file = await open(path, "r").catch(() => undefined);
      if (file !== undefined)
        return {
          file,
          async [Symbol.asyncDispose]() {
            await file.close();
            await stop();
          },
        };
      if (hasEnded(child) || performance.now() > end)
        throw new OsrError(BENCH_ERRORS.BENCH_COMMAND_FAILED, "restic does not mount");
      await wait(POLL_MS);
    }
  } catch (error) {
    await stop();
    throw error;
  }
}
