import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { makeDiskImage } from "../data/disk-image.ts";
import { type Timed, runCommand, timedCommand } from "../machine/command.ts";
import { borg } from "../rivals/borg.ts";
import { restic } from "../rivals/restic.ts";
import type { Rival, RivalOptions } from "../rivals/rival.ts";
import { INFORMATION, atLeastRivals, atMostRivals } from "../row.ts";
import { Replication, type Transfer } from "../site/replication.ts";
import { median } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";

type RivalRun = Timed & { readonly storedBytes: number };

/** First copy of a disk with real files, compressed and encrypted: ours over the network with all roles, rivals locally. */
export const firstCopy: Suite = {
  name: "first-copy",
  summary:
    "first copy of an ext4 disk against restic, borg and zstd: CPU seconds, wall time, bytes",
  async run(context) {
    const { narrator, signal, folder, scale } = context;
    const directory = await folder.folder("first-copy");
    const imagePath = join(directory, "disk.raw");
    await narrator.step("making the disk image", () => makeDiskImage(imagePath, scale, signal));
    const ours: Transfer[] = [];
    const rivals = new Map<string, RivalRun[]>();
    const zstd: Timed[] = [];
    // Interleaved, so that whatever else the machine does hits all of them.
    for (let run = 1; run <= scale.runs; run++) {
      await warm(imagePath, signal);
      ours.push(
        await narrator.step(`first copy by us, run ${run}`, () =>
          oneCopy(context, join(directory, `ours-${run}`), imagePath),
        ),
      );
      for (const make of RIVALS) {
        const place = join(directory, "rival");
        await mkdir(place);
        const rival = make({ directory: place, imagePath, signal });
        const saved = await narrator.step(`first copy by ${rival.name}, run ${run}`, () =>
          saveOnce(rival),
        );
        rivals.set(rival.name, [...(rivals.get(rival.name) ?? []), saved]);
        await rm(place, { recursive: true });
      }
      zstd.push(await compressOnce(imagePath, signal));
    }
    report(context, ours, rivals, zstd);
    await rm(directory, { recursive: true });
  },
};

const RIVALS: readonly ((options: RivalOptions) => Rival)[] = [
  restic,
  (options) => borg({ ...options, name: "borg 4M", chunkBytes: 4 * MIB, zstdLevel: 3 }),
  (options) => borg({ ...options, name: "borg 4M zstd-1", chunkBytes: 4 * MIB, zstdLevel: 1 }),
];

async function oneCopy(
  context: SuiteContext,
  directory: string,
  imagePath: string,
): Promise<Transfer> {
  try {
    await using replication = await Replication.prepare({
      context,
      suite: firstCopy.name,
      directory,
      imagePath,
      access: "cached",
    });
    return await replication.firstCopy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function saveOnce(rival: Rival): Promise<RivalRun> {
  await rival.init();
  const before = rival.storedBytes();
  const timed = await rival.save();
  return { ...timed, storedBytes: rival.storedBytes() - before };
}

function compressOnce(imagePath: string, signal: AbortSignal): Promise<Timed> {
  return timedCommand("zstd", ["-q", "-1", "-T2", "-c", imagePath], {
    timeoutMs: 10 * MINUTE_MS,
    signal,
    output: "discard",
  });
}

/** Brings the image into the page cache, for everybody. */
async function warm(imagePath: string, signal: AbortSignal): Promise<void> {
  await runCommand("cat", [imagePath], { timeoutMs: MINUTE_MS, signal, output: "discard" });
}

function report(
  { add, scale }: SuiteContext,
  ours: readonly Transfer[],
  rivals: ReadonlyMap<string, readonly RivalRun[]>,
  zstd: readonly Timed[],
): void {
  const disk = `${scale.diskBytes / MIB} MiB ext4 disk`;
  const ofRivals = (value: (run: RivalRun) => number): Record<string, number> =>
    Object.fromEntries(
      rivals.entries().map(([name, runs]) => [name, median(runs.map((run) => value(run)))]),
    );
  const ofOurs = (value: (run: Transfer) => number): { ours: number; runs: number[] } => {
    const runs = ours.map((run) => value(run));
    return { ours: median(runs), runs };
  };
  const cpu = {
    ...ofOurs((run) => run.cpuSeconds),
    rivals: ofRivals((run) => run.cpuSeconds),
    case: disk,
    metric: "CPU",
    unit: "s",
  };
  add({
    ...cpu,
    goal: atMostRivals("must", ["restic"], 1, "no more than restic"),
    note: "ours: agent, process server, storage account and osr up, from the agent's start to the point; rivals: time(1)",
  });
  add({ ...cpu, goal: atMostRivals("aim", ["borg 4M", "borg 4M zstd-1"], 1, "no more than borg") });
  const speed = (wallMs: number): number => (scale.diskBytes / MIB / wallMs) * SECOND_MS;
  add({
    case: disk,
    metric: "speed",
    unit: "MiB/s",
    ...ofOurs((run) => speed(run.wallMs)),
    rivals: {
      "zstd -1 -T2": median(zstd.map(({ wallMs }) => speed(wallMs))),
      ...ofRivals((run) => speed(run.wallMs)),
    },
    goal: atLeastRivals("aim", ["zstd -1 -T2"], 0.6, "at least 60 % of zstd -1 -T2"),
    note: "ours ends when the first recovery point is in the storage account; zeros counted",
  });
  const information = { case: disk, goal: INFORMATION } as const;
  add({
    ...information,
    metric: "stored",
    unit: "MiB",
    ...ofOurs((run) => run.storedBytes / MIB),
    rivals: ofRivals((run) => run.storedBytes / MIB),
  });
  for (const [metric, value] of [
    ["CPU of the agent", (run: Transfer) => run.cpuSecondsByRole["agent"] ?? 0],
    ["CPU of the process server", (run: Transfer) => run.cpuSecondsByRole["process server"] ?? 0],
    ["CPU of the storage account", (run: Transfer) => run.cpuSecondsByRole["storage account"] ?? 0],
    ["CPU of the kernel's threads, for anybody", (run: Transfer) => run.kernelCpuSeconds],
  ] as const)
    add({ ...information, metric, unit: "s", ...ofOurs(value), rivals: {} });
  for (const [metric, value] of [
    ["sent by the agent", (run: Transfer) => run.agentWireBytes / MIB],
    ["sent by the process server", (run: Transfer) => run.uploadWireBytes / MIB],
  ] as const)
    add({ ...information, metric, unit: "MiB", ...ofOurs(value), rivals: {} });
}
