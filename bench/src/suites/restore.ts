import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { makeDiskImage } from "../data/disk-image.ts";
import { sameContent } from "../data/same-content.ts";
import { runCommand } from "../machine/command.ts";
import { borg } from "../rivals/borg.ts";
import { restic } from "../rivals/restic.ts";
import type { Rival } from "../rivals/rival.ts";
import { INFORMATION, moreThanRivals } from "../row.ts";
import { serveNewestPoint } from "../site/nbd-export.ts";
import { Replication } from "../site/replication.ts";
import { materialise } from "../site/restored.ts";
import { median } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const LIMIT_MS = 15 * MINUTE_MS;

type Restore = { readonly wallMs: number; readonly cpuSeconds: number };

/** Somebody who can restore the disk. */
type Competitor = {
  readonly name: string;
  /** To a new file in `folder`; gives its path. */
  toFile(folder: string): Promise<Restore & { readonly path: string }>;
  toNull(): Promise<Restore>;
};

/** A whole disk back from the repository. */
export const restore: Suite = {
  name: "restore",
  summary:
    "a whole disk from the storage account to a file and to nowhere, against restic and borg",
  async run(context) {
    const { narrator, signal, folder, scale } = context;
    const directory = await folder.folder("restore");
    const imagePath = join(directory, "disk.raw");
    await narrator.step("making the disk image", () => makeDiskImage(imagePath, scale, signal));
    await using replication = await Replication.prepare({
      context,
      suite: restore.name,
      directory,
      imagePath,
      access: "cached",
    });
    await narrator.step("first copy", () => replication.firstCopy());
    await replication.endAgent();
    const competitors = [us(context, replication, directory)];
    for (const rival of await savedRivals(directory, context, imagePath))
      competitors.push(ofRival(rival));
    const runs = new Map(
      competitors.map(({ name }) => [name, { toFile: [] as Restore[], toNull: [] as Restore[] }]),
    );
    for (let run = 1; run <= scale.runs; run++)
      for (const competitor of competitors) {
        const { toFile, toNull } = runs.get(competitor.name) ?? { toFile: [], toNull: [] };
        await narrator.step(`restore by ${competitor.name}, run ${run}`, async () => {
          toFile.push(await restoredRight(competitor, directory, imagePath));
          toNull.push(await competitor.toNull());
        });
      }
    report(context, runs);
  },
};

const OURS = "ours";

/** To a file with `osr repository materialise`; to nowhere by reading the NBD export from its start to its end. */
function us(context: SuiteContext, replication: Replication, directory: string): Competitor {
  return {
    name: OURS,
    toFile: (folder) => materialise(context, replication, join(folder, "disk.raw")),
    async toNull() {
      const sockets = join(directory, "nbd");
      await using served = await serveNewestPoint(context, restore.name, replication, sockets);
      const begin = performance.now();
      // As rivals, this includes the start of the program.
      await runCommand("nbdcopy", [served.uri, "null:"], {
        timeoutMs: LIMIT_MS,
        signal: context.signal,
      });
      const wallMs = performance.now() - begin + served.readyMs;
      return { wallMs, cpuSeconds: served.cpuSeconds() };
    },
  };
}

async function savedRivals(
  directory: string,
  { signal, narrator }: SuiteContext,
  imagePath: string,
): Promise<readonly Rival[]> {
  const place = async (name: string): Promise<string> => {
    const path = join(directory, name);
    await mkdir(path);
    return path;
  };
  const rivals = [
    restic({ directory: await place("restic"), imagePath, signal }),
    borg({
      directory: await place("borg"),
      imagePath,
      signal,
      name: "borg 4M",
      chunkBytes: 4 * MIB,
      zstdLevel: 3,
    }),
  ];
  for (const rival of rivals) {
    await rival.init();
    await narrator.step(`first copy by ${rival.name}`, () => rival.save());
  }
  return rivals;
}

function ofRival(rival: Rival): Competitor {
  return {
    name: rival.name,
    toFile: (folder) => rival.restoreToFile(folder),
    toNull: () => rival.restoreToNull(),
  };
}

/** Restores to a file, compares it with the disk, and removes it. */
async function restoredRight(
  competitor: Competitor,
  directory: string,
  imagePath: string,
): Promise<Restore> {
  const folder = join(directory, "restored");
  await mkdir(folder);
  try {
    const restored = await competitor.toFile(folder);
    if (await sameContent(restored.path, imagePath)) return restored;
    const message = `what ${competitor.name} restored differs from the disk`;
    throw new OsrError(BENCH_ERRORS.BENCH_WRONG, message);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function report(
  { add, scale }: SuiteContext,
  runs: ReadonlyMap<string, { readonly toFile: Restore[]; readonly toNull: Restore[] }>,
): void {
  const disk = scale.diskBytes / MIB;
  const rivalNames = [...runs.keys()].filter((name) => name !== OURS);
  const speed = ({ wallMs }: Restore): number => (disk / wallMs) * SECOND_MS;
  const cpu = ({ cpuSeconds }: Restore): number => cpuSeconds;
  for (const kind of ["toFile", "toNull"] as const) {
    const values = (name: string, value: (restore: Restore) => number): number[] =>
      (runs.get(name)?.[kind] ?? []).map((each) => value(each));
    const ofRivals = (value: (restore: Restore) => number): Record<string, number> =>
      Object.fromEntries(rivalNames.map((name) => [name, median(values(name, value))]));
    const what = {
      case: `${disk} MiB ext4 disk ${kind === "toFile" ? "to a file" : "to nowhere"}`,
    };
    add({
      ...what,
      metric: "speed",
      unit: "MiB/s",
      ours: median(values(OURS, speed)),
      runs: values(OURS, speed),
      rivals: ofRivals(speed),
      // Restoring is writing a disk; reading an export to nowhere is what the rivals' fastest figures are taken with.
      goal: moreThanRivals(
        kind === "toFile" ? "must" : "aim",
        rivalNames,
        "more than restic and borg",
      ),
      note:
        kind === "toFile"
          ? "zeros counted; ours over TLS and synced at the end, rivals from a local folder and not synced"
          : "zeros counted; ours through the NBD export, its start included; rivals to /dev/null",
    });
    add({
      ...what,
      metric: "CPU",
      unit: "s",
      ours: median(values(OURS, cpu)),
      rivals: ofRivals(cpu),
      goal: INFORMATION,
      note: "ours without the storage account's role",
    });
  }
}
