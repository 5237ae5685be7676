import { rm } from "node:fs/promises";
import { join } from "node:path";

import { fileSha256 } from "./layer-hash.ts";
import type { DiskReference } from "./reference-snapshots.ts";
import type { Site } from "./site.ts";

/** A recovery point as `osr repository points` lists it. */
export type ListedPoint = {
  readonly point: number;
  readonly class: string;
  /** `yes`, or why not. */
  readonly offered: string;
  readonly machine: string;
  readonly cut: string;
};

export async function listedPoints(
  site: Site,
  machineId: string,
  signal?: AbortSignal,
): Promise<readonly ListedPoint[]> {
  const words = ["repository", "points", "--machine", machineId];
  return ((await site.osr(words, signal)) ?? []) as readonly ListedPoint[];
}

/**
 * Materialises a disk at a recovery point with the `osr` command and gives its SHA-256. `disk` is the kernel's name of it.
 */
export async function materialisedSha256(
  site: Site,
  point: ListedPoint,
  disk: string,
  directory: string,
  signal?: AbortSignal,
): Promise<string> {
  const out = join(directory, `${point.point}-${disk}.raw`);
  await site.osr(
    [
      ["repository", "materialise", "--machine", point.machine, "--point", String(point.point)],
      ["--disk", disk, "--out", out, "--format", "raw"],
    ].flat(),
    signal,
  );
  try {
    return await fileSha256(out, signal);
  } finally {
    await rm(out, { force: true });
  }
}

export type Comparison = {
  readonly point: ListedPoint;
  readonly disk: string;
  readonly frozenSha256: string;
  readonly materialisedSha256: string;
};

/** Compares every disk of a point with what it held while it was frozen. */
export async function comparePoint(
  site: Site,
  point: ListedPoint,
  references: readonly DiskReference[],
  options: {
    /** The kernel's name of a disk of the rig. */
    readonly kernelNameOf: (disk: string) => string;
    readonly directory: string;
    readonly signal: AbortSignal;
  },
): Promise<readonly Comparison[]> {
  return Promise.all(
    references.map(async ({ disk, sha256 }) => ({
      point,
      disk,
      frozenSha256: sha256,
      materialisedSha256: await materialisedSha256(
        site,
        point,
        options.kernelNameOf(disk),
        options.directory,
        options.signal,
      ),
    })),
  );
}
