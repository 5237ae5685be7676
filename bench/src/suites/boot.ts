import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB, SECOND_MS } from "@osr/base/units";
import { probeAccelerator } from "@osr/compute-qemu/kvm-probe";

import { bootOnce } from "../boot/guest-machine.ts";
import { guestImage } from "../boot/guest-image.ts";
import { NbdReader } from "../boot/nbd-reader.ts";
import { mountRestic } from "../boot/restic-mount.ts";
import { makeDiskImage } from "../data/disk-image.ts";
import { SeededBytes } from "../data/seeded-bytes.ts";
import { restic } from "../rivals/restic.ts";
import { INFORMATION, atMostRivals, below } from "../row.ts";
import { serveNewestPoint } from "../site/nbd-export.ts";
import { Replication } from "../site/replication.ts";
import { median, quantile } from "../statistics.ts";
import type { Suite, SuiteContext } from "../suite.ts";

const READS_SEED = "reads-1";
const FIRST_BYTE_MS_MAX = 500;
const READ_MS_MAX = 3;
const SLOWER_MAX = 1.15;
const CONNECT_MS_MAX = 60 * SECOND_MS;

type Reads = { readonly firstByteMs: number; readonly readMs: readonly number[] };

/** How soon and how fast a recovery point can be used without restoring it. */
export const boot: Suite = {
  name: "boot",
  summary:
    "a machine started from the NBD export and from a local file; first byte; random reads against restic mount",
  async run(context) {
    await reads(context);
    await boots(context);
  },
};

async function reads(context: SuiteContext): Promise<void> {
  const { narrator, signal, folder, scale } = context;
  const directory = await folder.folder("boot");
  const imagePath = join(directory, "disk.raw");
  await narrator.step("making the disk image", () => makeDiskImage(imagePath, scale, signal));
  await using replication = await Replication.prepare({
    context,
    suite: boot.name,
    directory,
    imagePath,
    access: "cached",
  });
  await narrator.step("first copy", () => replication.firstCopy());
  await replication.endAgent();
  const place = join(directory, "restic");
  await mkdir(place);
  const rival = restic({ directory: place, imagePath, signal });
  await rival.init();
  await narrator.step("first copy by restic", () => rival.save());
  const ours: Reads[] = [];
  const rivals: Reads[] = [];
  for (let run = 1; run <= scale.runs; run++) {
    ours.push(
      await narrator.step(`reading our export, run ${run}`, () =>
        readExport(context, replication, join(directory, "nbd")),
      ),
    );
    rivals.push(
      await narrator.step(`reading restic's mount, run ${run}`, () =>
        readMount(context, place, imagePath),
      ),
    );
  }
  reportReads(context, ours, rivals);
}

/** Each time a new process: nothing is cached but what the storage account's host has in memory. */
async function readExport(
  context: SuiteContext,
  replication: Replication,
  sockets: string,
): Promise<Reads> {
  await rm(sockets, { recursive: true, force: true });
  const begin = performance.now();
  const starting = serveNewestPoint(context, boot.name, replication, sockets);
  // It is reported when it is awaited.
  starting.catch(() => undefined);
  const socketPath = join(sockets, `${replication.loop.name}.sock`);
  const opening = NbdReader.open(socketPath, CONNECT_MS_MAX);
  try {
    using reader = await opening;
    await reader.read(0, BLOCK_BYTES);
    const firstByteMs = performance.now() - begin;
    const readMs = await timedReads(context, (offset) => reader.read(offset, BLOCK_BYTES));
    return { firstByteMs, readMs };
  } finally {
    await using _ = await starting;
  }
}

async function readMount(context: SuiteContext, place: string, imagePath: string): Promise<Reads> {
  const begin = performance.now();
  await using mount = await mountRestic(place, imagePath, context.signal);
  const buffer = Buffer.alloc(BLOCK_BYTES);
  await mount.file.read(buffer, 0, BLOCK_BYTES, 0);
  const firstByteMs = performance.now() - begin;
  const readMs = await timedReads(context, (offset) =>
    mount.file.read(buffer, 0, BLOCK_BYTES, offset),
  );
  return { firstByteMs, readMs };
}

async function timedReads(
  { scale }: SuiteContext,
  read: (offset: number) => Promise<unknown>,
): Promise<readonly number[]> {
  const random = new SeededBytes(READS_SEED);
  const times: number[] = [];
  for (let index = 0; index < scale.randomReads; index++) {
    const offset = random.below(scale.diskBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const begin = performance.now();
    await read(offset);
    times.push(performance.now() - begin);
  }
  return times;
}

function reportReads(
  { add, scale }: SuiteContext,
  ours: readonly Reads[],
  rivals: readonly Reads[],
): void {
  const over = (runs: readonly Reads[], value: (run: Reads) => number): number =>
    median(runs.map((run) => value(run)));
  const both = (value: (run: Reads) => number) => ({
    ours: over(ours, value),
    rivals: { "restic mount": over(rivals, value) },
    runs: ours.map((run) => value(run)),
  });
  const disk = `${scale.diskBytes / MIB} MiB ext4 disk`;
  add({
    case: disk,
    metric: "first byte",
    unit: "ms",
    ...both((run) => run.firstByteMs),
    goal: below("must", FIRST_BYTE_MS_MAX, "under 0.5 s"),
    note: "from the start of osr repository serve, or of restic mount, to the first 4 KiB",
  });
  add({
    case: disk,
    metric: "random 4 KiB, p95",
    unit: "ms",
    ...both((run) => quantile(run.readMs, 0.95)),
    goal: below("must", READ_MS_MAX, `under ${READ_MS_MAX} ms`),
    note: `${scale.randomReads} reads, one after the other, over the whole disk`,
  });
  add({
    case: disk,
    metric: "random 4 KiB, one at a time",
    unit: "1/s",
    ...both((run) => SECOND_MS / (run.readMs.reduce((a, b) => a + b, 0) / run.readMs.length)),
    goal: INFORMATION,
  });
}

async function boots(context: SuiteContext): Promise<void> {
  const { narrator, signal, folder, scale } = context;
  const image = await guestImage(narrator, signal);
  const directory = await folder.folder("guest");
  const imagePath = join(directory, "disk.raw");
  await copyFile(image, imagePath);
  const accelerator = await probeAccelerator({ qemu: "qemu-system-x86_64" });
  await using replication = await Replication.prepare({
    context,
    suite: boot.name,
    directory,
    imagePath,
    access: "cached",
  });
  await narrator.step("first copy of the guest", () => replication.firstCopy());
  await replication.endAgent();
  const machine = { directory, accelerator: accelerator.kind, signal };
  const local: number[] = [];
  const remote: number[] = [];
  // Each pair begins with the other one.
  for (let run = 1; run <= scale.runs; run++)
    for (const kind of run % 2 === 1 ? (["file", "nbd"] as const) : (["nbd", "file"] as const)) {
      const title = `start from ${kind === "nbd" ? "the NBD export" : "a local file"}, run ${run}`;
      await narrator.step(title, async () => {
        if (kind === "file")
          local.push(await bootOnce({ ...machine, disk: { kind, path: imagePath } }));
        else remote.push(await bootExport(context, replication, machine));
      });
    }
  context.add({
    case: `Debian guest, ${accelerator.kind}, one processor`,
    metric: "start to HTTP answer",
    unit: "s",
    ours: median(remote) / SECOND_MS,
    runs: remote.map((ms) => ms / SECOND_MS),
    rivals: { "local file": median(local) / SECOND_MS },
    goal: atMostRivals("must", ["local file"], SLOWER_MAX, "within 15 % of the local file"),
    note: `BIOS, GRUB, systemd; overlay in both cases; ${accelerator.reason}`,
  });
}

async function bootExport(
  context: SuiteContext,
  replication: Replication,
  machine: Omit<Parameters<typeof bootOnce>[0], "disk">,
): Promise<number> {
  const sockets = join(machine.directory, "nbd");
  await rm(sockets, { recursive: true, force: true });
  await using served = await serveNewestPoint(context, boot.name, replication, sockets);
  return await bootOnce({ ...machine, disk: { kind: "nbd", socketPath: served.socketPath } });
}
