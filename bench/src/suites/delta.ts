import { copyFile, mkdir, open, rm, truncate } from "node:fs/promises";
import { join } from "node:path";

import { OsrError } from "@osr/base/errors";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { GIB, KIB, MIB, SECOND_MS, formatBytes } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import {
  type ChangeSet,
  applyChanges,
  changedBlocks,
  clusteredChanges,
  scatteredChanges,
} from "../data/change-set.ts";
import { deltaFloorBytes } from "../data/delta-floor.ts";
import { makeDiskImage } from "../data/disk-image.ts";
import { sameContent } from "../data/same-content.ts";
import type { Timed } from "../machine/command.ts";
import { borg } from "../rivals/borg.ts";
import { restic } from "../rivals/restic.ts";
import type { Rival, RivalOptions } from "../rivals/rival.ts";
import { INFORMATION, atMost, atMostRivals, below } from "../row.ts";
import { Replication, type Transfer } from "../site/replication.ts";
import { materialise } from "../site/restored.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const SCATTERED_SEED = "7";
const CLUSTERED_SEED = "11";
/** Change sets that are timed on disks of both sizes. */
const TIMED_SEEDS = [CLUSTERED_SEED, "12", "13"] as const;
const FLOOR_FACTOR_MAX = 1.15;
const GROWTH_MAX = 1.3;

type OurDelta = {
  readonly changes: ChangeSet;
  readonly floorBytes: number;
  readonly transfer: Transfer;
};
type RivalDelta = Timed & { readonly storedBytes: number };
type RivalDeltas = ReadonlyMap<string, readonly RivalDelta[]>;

/** What changes between two points costs: bytes against the least possible, time against the size of the disk. */
export const delta: Suite = {
  name: "delta",
  summary:
    "scattered and clustered changes: bytes against the floor, restic and borg; time on disks of two sizes",
  async run(context) {
    const { narrator, signal, folder, scale } = context;
    const directory = await folder.folder("delta");
    const base = join(directory, "base.raw");
    await narrator.step("making the disk image", () => makeDiskImage(base, scale, signal));
    const small = await ourDeltas(context, directory, base, scale.diskBytes);
    const large = await ourDeltas(context, directory, base, scale.largeDiskBytes);
    const rivals = await rivalDeltas(context, directory, base, small);
    report(context, small, large, rivals);
    await rm(directory, { recursive: true });
  },
};

function changeSets({ scale }: SuiteContext): readonly ChangeSet[] {
  const options = { rangeBytes: scale.diskBytes, scale: scale.changeScale };
  return [
    ...TIMED_SEEDS.map((seed) => clusteredChanges({ ...options, seed })),
    scatteredChanges({ ...options, seed: SCATTERED_SEED }),
  ];
}

/** Copies the disk, grown to `diskBytes`, and then one change set after the other, each as a recovery point. */
async function ourDeltas(
  context: SuiteContext,
  directory: string,
  base: string,
  diskBytes: number,
): Promise<readonly OurDelta[]> {
  const { narrator, scale, signal } = context;
  const size = formatBytes(diskBytes);
  const isLarge = diskBytes > scale.diskBytes;
  const imagePath = join(directory, `ours-${size.replaceAll(" ", "")}.raw`);
  const place = join(directory, `ours-${size.replaceAll(" ", "")}`);
  try {
    await copyFile(base, imagePath);
    if (isLarge) await truncate(imagePath, diskBytes);
    // The first copy goes past the page cache where the disk is larger than memory: its holes would fill it.
    const access = isLarge ? "direct" : "cached";
    await using replication = await Replication.prepare({
      context,
      suite: delta.name,
      directory: place,
      imagePath,
      access,
    });
    await narrator.step(`first copy of ${size}`, () => replication.firstCopy());
    // What is timed reads from the same place for disks of both sizes.
    await replication.loop.useCache();
    const deltas: OurDelta[] = [];
    for (const changes of changeSets(context)) {
      const transfer = await narrator.step(`${changes.name} changes of ${size}`, () =>
        replication.delta(changes),
      );
      const floorBytes = await deltaFloorBytes(imagePath, changedBlocks(changes));
      deltas.push({ changes, floorBytes, transfer });
    }
    await replication.endAgent();
    if (!isLarge) await proveContent(context, replication, place, imagePath);
    return deltas;
  } finally {
    await rm(imagePath, { force: true });
    await rm(place, { recursive: true, force: true });
    signal.throwIfAborted();
  }
}

/** Numbers of a copy that is not the disk would be worth nothing. */
async function proveContent(
  context: SuiteContext,
  replication: Replication,
  place: string,
  imagePath: string,
): Promise<void> {
  const { path } = await context.narrator.step("comparing the newest point with the disk", () =>
    materialise(context, replication, join(place, "restored.raw")),
  );
  if (!(await sameContent(path, imagePath)))
    throw new OsrError(BENCH_ERRORS.BENCH_WRONG, "the newest point differs from the disk");
}

const RIVALS: readonly ((options: RivalOptions) => Rival)[] = [
  restic,
  (options) => borg({ ...options, name: "borg 64K", chunkBytes: 64 * KIB, zstdLevel: 3 }),
  (options) => borg({ ...options, name: "borg 4M", chunkBytes: 4 * MIB, zstdLevel: 3 }),
];

/** The same states of the same disk, saved by each rival. In the order of the change sets. */
async function rivalDeltas(
  context: SuiteContext,
  directory: string,
  base: string,
  ours: readonly OurDelta[],
): Promise<RivalDeltas> {
  const { narrator, signal } = context;
  const deltas = new Map<string, RivalDelta[]>();
  for (const make of RIVALS) {
    const place = join(directory, "rival");
    const imagePath = join(directory, "rival.raw");
    await mkdir(place);
    await copyFile(base, imagePath);
    const rival = make({ directory: place, imagePath, signal });
    await rival.init();
    await narrator.step(`first copy by ${rival.name}`, () => rival.save());
    for (const { changes } of ours) {
      await using file = await open(imagePath, "r+");
      await applyChanges(file, changes);
      const before = rival.storedBytes();
      const timed = await narrator.step(`${changes.name} changes by ${rival.name}`, () =>
        rival.save(),
      );
      const saved = { ...timed, storedBytes: rival.storedBytes() - before };
      deltas.set(rival.name, [...(deltas.get(rival.name) ?? []), saved]);
    }
    await rm(place, { recursive: true });
    await rm(imagePath);
  }
  return deltas;
}

function report(
  context: SuiteContext,
  small: readonly OurDelta[],
  large: readonly OurDelta[],
  rivals: RivalDeltas,
): void {
  for (const [index, delta] of small.entries()) {
    // Of the clustered change sets only the first: the others are for the times.
    if (index > 0 && delta.changes.name === "clustered") continue;
    reportBytes(
      context,
      delta,
      ofRivals(rivals, (runs) => (runs[index]?.storedBytes ?? NaN) / MIB),
    );
    reportCost(context, delta, {
      cpu: ofRivals(rivals, (runs) => runs[index]?.cpuSeconds ?? NaN),
      wall: ofRivals(rivals, (runs) => (runs[index]?.wallMs ?? NaN) / SECOND_MS),
    });
  }
  reportGrowth(context, small, large);
}

function reportBytes(
  { add }: SuiteContext,
  { changes, floorBytes, transfer }: OurDelta,
  rivals: Readonly<Record<string, number>>,
): void {
  const floor = floorBytes / MIB;
  add({
    case: changes.name,
    metric: "stored",
    unit: "MiB",
    ours: transfer.storedBytes / MIB,
    rivals: { floor, ...rivals },
    goal: atMostRivals(
      "must",
      ["floor"],
      FLOOR_FACTOR_MAX,
      `at most ${FLOOR_FACTOR_MAX} times the floor (4 KiB exact, zstd -3)`,
    ),
    note: "all objects of the interval, the recovery point among them",
  });
  const exact = (changedBlocks(changes).length * BLOCK_BYTES) / MIB;
  for (const [metric, bytes] of [
    ["sent by the agent", transfer.agentWireBytes],
    ["sent by the process server", transfer.uploadWireBytes],
  ] as const)
    add({
      case: changes.name,
      metric,
      unit: "MiB",
      ours: bytes / MIB,
      rivals: { "4 KiB exact": exact, floor },
      goal: INFORMATION,
    });
}

function reportCost(
  { add }: SuiteContext,
  { changes, transfer }: OurDelta,
  rivals: {
    readonly cpu: Readonly<Record<string, number>>;
    readonly wall: Readonly<Record<string, number>>;
  },
): void {
  add({
    case: changes.name,
    metric: "CPU",
    unit: "s",
    ours: transfer.cpuSeconds,
    rivals: rivals.cpu,
    goal: atMost("aim", 1.3, "at most 1.3 s, what borg takes to find clustered changes on 2 GiB"),
    note: "ours: all roles from the begin of the cut to the point in the storage account; rivals read the whole disk",
  });
  add({
    case: changes.name,
    metric: "wall",
    unit: "s",
    ours: transfer.wallMs / SECOND_MS,
    rivals: rivals.wall,
    goal: INFORMATION,
    note: "from the begin of the cut to the recovery point in the storage account",
  });
}

/** Time must follow the change, not the disk. */
function reportGrowth(
  { add, scale }: SuiteContext,
  small: readonly OurDelta[],
  large: readonly OurDelta[],
): void {
  const timed = (deltas: readonly OurDelta[], value: (transfer: Transfer) => number): number[] =>
    deltas
      .filter(({ changes }) => changes.name === "clustered")
      .map(({ transfer }) => value(transfer));
  const sizes = `${scale.largeDiskBytes / GIB} GiB against ${scale.diskBytes / MIB} MiB`;
  for (const [metric, value, goal] of [
    [
      "wall, ratio",
      (transfer: Transfer) => transfer.wallMs,
      below("must", GROWTH_MAX, `within ${GROWTH_MAX} times: grows with the change, not the disk`),
    ],
    ["CPU, ratio", (transfer: Transfer) => transfer.cpuSeconds, INFORMATION],
  ] as const) {
    const onSmall = timed(small, value);
    const onLarge = timed(large, value);
    add({
      case: `clustered, ${sizes}`,
      metric,
      unit: "times",
      ours: Math.min(...onLarge) / Math.min(...onSmall),
      rivals: {},
      goal,
      runs: onLarge.map((each, index) => each / (onSmall[index] ?? NaN)),
      note: "best of the same three change sets on either disk: what else the machine does only ever adds",
    });
  }
}

function ofRivals(
  rivals: RivalDeltas,
  value: (deltas: readonly RivalDelta[]) => number,
): Readonly<Record<string, number>> {
  return Object.fromEntries(rivals.entries().map(([name, deltas]) => [name, value(deltas)]));
}
