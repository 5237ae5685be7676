import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { promisify } from "node:util";

import type { Output } from "@osr/cli/output";
import { progressLine } from "@osr/cli/progress-line";
import type { MaterialiseOptions } from "@osr/cli/program";
import { keepFreedMemory } from "@osr/base/freed-memory";
import { systemClock } from "@osr/base/platform/system-clock";
import { MIB } from "@osr/base/units";
import { materialisePoint } from "@osr/repository/materialise";

import { progressWriter } from "../progress-writer.ts";
import { choosePoint, diskNamed, disksOf } from "../repository/choose-point.ts";
import { dataKeyOf, openRepository } from "../repository/open-repository.ts";

/** `osr repository materialise`: a disk as it was at a point, as raw file, block device or qcow2. */
export async function repositoryMaterialise(
  options: MaterialiseOptions,
  signal: AbortSignal,
): Promise<Output> {
  keepFreedMemory(32 * MIB);
  using repository = await openRepository(options);
  const { store, vaultId } = repository;
  const point = await choosePoint(repository, options);
  const disk = diskNamed(await disksOf(repository, point), options.disk);
  const out = resolve(options.out);
  const raw = options.format === "raw" ? out : `${out}.raw`;
  const line = progressLine(disk.name, systemClock);
  const progress = progressWriter();
  const { sizeBytes, dataBytes } = await materialisePoint(store, {
    vaultId,
    point,
    diskId: disk.diskId,
    dataKey: await dataKeyOf(repository, disk.diskId),
    path: raw,
    processors: availableParallelism() - 1,
    onProgress: ({ doneBytes, totalBytes }) => progress.show(line.text(doneBytes, totalBytes)),
    signal,
  });
  progress.clear();
  if (raw !== out) await toQcow2(raw, out, signal);
  return { disk: disk.name, point: point.slot, file: out, sizeBytes, dataBytes };
}

async function toQcow2(raw: string, out: string, signal: AbortSignal): Promise<void> {
  try {
    await promisify(execFile)("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", raw, out], {
      signal,
    });
  } finally {
    await rm(raw, { force: true });
  }
}
