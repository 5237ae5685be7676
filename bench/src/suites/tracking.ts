import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { SeededBytes } from "../data/seeded-bytes.ts";
import { endChild, hasEnded, spawnTied } from "../machine/command.ts";
import { attachLoop } from "../machine/loop-device.ts";
import { INFORMATION, below } from "../row.ts";
import { MEMORY_FOLDER, makeRunFolder } from "../run-folder.ts";
import { median, pairedLossPercent } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";
import { startTracking } from "../tracking/tracking-child.ts";

const DISK_BYTES = 256 * MIB;
const LOSS_PERCENT_MAX = 5;
const LOAD_MS_MAX = 20 * MINUTE_MS;
const STOP_MS_MAX = 10 * SECOND_MS;
const WARM_UP_MS = SECOND_MS;
/** After switching, before counting: a ring of the kernel and the memory of the dirty set are made or given back meanwhile. */
const SETTLE_MS = 150;
/** Short windows in many pairs: what else a machine does lasts longer than a pair. Each has its part of the drains, see BpfTracker. */
const WINDOW_MS = 500;
const PAIRS_MIN = 30;
/** Pairs are made until the interval is no wider, whatever it says: with 3, the middles of three runs were 0.5, 0.6 and 3.8. */
const INTERVAL_PERCENT = 2;
const SAID_PAIRS = 20;
const SEED = "tracking-1";

type Pair = { readonly without: number; readonly with: number };

/** What change tracking costs whoever writes. */
export const tracking: Suite = {
  name: "tracking",
  summary: "random 4 KiB writes with and without change tracking, in interleaved pairs",
  async run(context) {
    const { folder } = context;
    {
      // The device is as fast as one can be.
      await using memory = await makeRunFolder(MEMORY_FOLDER);
      await onDevice(
        context,
        { directory: memory.path, access: "cached" },
        "loop device over memory",
      );
    }
    // Past the page cache: writing that back every five seconds halves the speed for a while, whether tracked or not.
    const directory = await folder.folder("tracking");
    await onDevice(context, { directory, access: "direct" }, "loop device over a file on disk");
  },
};

async function onDevice(
  context: SuiteContext,
  { directory, access }: { readonly directory: string; readonly access: "cached" | "direct" },
  name: string,
): Promise<void> {
  const { signal, scale, narrator } = context;
  const path = join(directory, "disk.raw");
  await writeWhole(path);
  await using loop = await attachLoop(path, { access, signal });
  await using child = await startTracking(loop.name);
  await using load = await startWriting(context, loop.path);
  const random = new SeededBytes(SEED);
  const pairs: Pair[] = [];
  let changes = 0;
  for (let index = 1; index <= scale.trackingPairs && !isNarrow(pairs); index++) {
    const pair = { without: NaN, with: NaN };
    // Which of the two comes first is drawn, so that no drift favours one.
    const isFirst = random.below(2) === 0;
    for (const which of isFirst ? (["with", "without"] as const) : (["without", "with"] as const)) {
      if (which === "with") await child.on();
      load.assertRuns();
      pair[which] = await writesPerSecond(loop.name, signal);
      if (which === "with") changes += (await child.off()).changes;
    }
    pairs.push(pair);
    const { without } = pair;
    if (index % SAID_PAIRS === 0)
      narrator.say(
        `  ${name}, pair ${index}: ${without.toFixed(0)} and ${pair.with.toFixed(0)} writes a second`,
      );
  }
  report(context, name, pairs, changes);
}

function isNarrow(pairs: readonly Pair[]): boolean {
  if (pairs.length < PAIRS_MIN) return false;
  const { low, high } = pairedLossPercent(pairs);
  return high - low <= INTERVAL_PERCENT;
}

/** A file without holes: the first write to a hole costs more than later ones. */
async function writeWhole(path: string): Promise<void> {
  const random = new SeededBytes(SEED);
  await using file = await open(path, "wx");
  for (let at = 0; at < DISK_BYTES; at += MIB) await file.write(random.bytes(MIB));
  await file.sync();
}

/** One load for all pairs: starting it anew each time would be most of the noise. */
async function startWriting(
  { signal }: SuiteContext,
  device: string,
): Promise<AsyncDisposable & { assertRuns(): void }> {
  const child = spawnTied(
    "fio",
    [
      ["--name=write", `--filename=${device}`, "--rw=randwrite", "--bs=4k", "--direct=1"],
      ["--ioengine=libaio", "--iodepth=16", "--randseed=1", "--norandommap"],
      ["--time_based", `--runtime=${LOAD_MS_MAX / SECOND_MS}`],
    ].flat(),
    { stdio: "ignore" },
  );
  const assertRuns = (): void => {
    if (hasEnded(child)) throw new OsrError(BENCH_ERRORS.BENCH_WRONG, "fio has ended early");
  };
  await wait(WARM_UP_MS, undefined, { signal });
  return { assertRuns, [Symbol.asyncDispose]: () => endChild(child, STOP_MS_MAX) };
}

/** Completed writes of a device, by the kernel's own count, over one window. */
async function writesPerSecond(diskName: string, signal: AbortSignal): Promise<number> {
  await wait(SETTLE_MS, undefined, { signal });
  const begin = { ms: performance.now(), writes: completedWrites(diskName) };
  await wait(WINDOW_MS, undefined, { signal });
  const writes = completedWrites(diskName) - begin.writes;
  const rate = (writes / (performance.now() - begin.ms)) * SECOND_MS;
  if (rate > 0) return rate;
  throw new OsrError(BENCH_ERRORS.BENCH_WRONG, "nothing was written");
}

function completedWrites(diskName: string): number {
  const fields = readFileSync(`/sys/class/block/${diskName}/stat`, "utf8").trim().split(/\s+/);
  return Number(fields[4]);
}

function report(
  { add }: SuiteContext,
  name: string,
  pairs: readonly Pair[],
  changes: number,
): void {
  const { middle, low, high } = pairedLossPercent(pairs);
  const without = median(pairs.map((pair) => pair.without));
  add({
    case: name,
    metric: "loss of write IOPS, at most (95 %)",
    unit: "%",
    ours: high,
    rivals: {},
    goal: below("must", LOSS_PERCENT_MAX, `under ${LOSS_PERCENT_MAX} %`),
    note: `middle ${middle.toFixed(2)} %, interval ${low.toFixed(2)} to ${high.toFixed(2)} % over ${pairs.length} pairs; ${changes} changes tracked`,
  });
  add({
    case: name,
    metric: "write IOPS",
    unit: "1/s",
    ours: median(pairs.map((pair) => pair.with)),
    rivals: { untracked: without },
    goal: INFORMATION,
    note: "4 KiB random writes, O_DIRECT, 16 at once; medians of windows of 0.5 s",
  });
}
