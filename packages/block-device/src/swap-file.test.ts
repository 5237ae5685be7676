import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { KIB, MIB } from "@osr/base/units";

import type { SectorRange } from "./change-tracker.ts";
import { readDiskInventory } from "./disk-inventory.ts";
import { swapNames, swapRangesOf } from "./swap-areas.ts";
import { type SystemRoots, systemRoots } from "./system-roots.ts";
import { type LoopDisk, LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";

const FILE_BYTES = 16 * MIB;
const DISK_BYTES = 64 * MIB;
/** XFS makes no smaller file systems. */
const XFS_BYTES = 320 * MIB;
const PATTERN = "osr-swap-pattern";
const PAGE_BYTES = Number(runTool("getconf", "PAGESIZE"));

const skip =
  (process.getBuiltinModule("node:ffi") === undefined
    ? "needs node:ffi"
    : loopSkipReason("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkswap")) ?? false;

/** A file in many pieces, full of the pattern but for the header that mkswap puts before it. */
function swapFile(folder: string): string {
  const file = path.join(folder, "swap file");
  const piece = Buffer.alloc(MIB, PATTERN);
  for (let at = 0; at < FILE_BYTES; at += MIB) {
    fs.appendFileSync(file, piece, { flush: true });
    fs.writeFileSync(path.join(folder, `between-${at}`), Buffer.alloc(64 * KIB, 1), {
      flush: true,
    });
  }
  fs.chmodSync(file, 0o600);
  runTool("mkswap", "--pagesize", String(PAGE_BYTES), file);
  runTool("sync", "-f", folder);
  return file;
}

/** The kernel as it would show itself with this swap file in use; whether it is must not concern the rest of the machine. */
function rootsWith(t: TestContext, file: string, sizeBytes: number): SystemRoots {
  const procfs = fs.mkdtempSync("/run/osr-swap-");
  t.after(() => fs.rmSync(procfs, { recursive: true }));
  const name = file.replaceAll(" ", "\\040");
  const header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
  fs.writeFileSync(
    path.join(procfs, "swaps"),
    `${header}${name}                  file\t\t${sizeBytes / KIB}\t\t0\t\t-2\n`,
  );
  fs.symlinkSync("/proc/self", path.join(procfs, "self"));
  return { ...systemRoots, procfs };
}

async function rangesOf(disk: LoopDisk, roots: SystemRoots): Promise<readonly SectorRange[]> {
  const options = { selection: [disk.name], replicatedDataFolders: [], roots };
  const { disks } = await readDiskInventory(options);
  return must(disks[0], "the disk can be protected").swapRanges;
}

function writeSparsely(disk: LoopDisk, image: Buffer): void {
  const fd = fs.openSync(disk.path, "r+");
  const zeros = Buffer.alloc(MIB);
  for (let at = 0; at < image.length; at += MIB) {
    const piece = image.subarray(at, at + MIB);
    if (!piece.equals(zeros)) fs.writeSync(fd, piece, 0, piece.length, at);
  }
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function isOfPattern(block: Buffer): boolean {
  return block.equals(Buffer.alloc(block.length, PATTERN));
}

for (const [type, diskBytes, ...options] of [
  ["ext4", DISK_BYTES, "-b", "4096"],
  ["xfs", XFS_BYTES],
] as const)
  test(
    `a swap file of ${type}: all of it but the header is left out, and nothing else`,
    { skip },
    async (t) => {
      const loops = new LoopDisks(t);
      const disk = loops.create(diskBytes);
      const file = swapFile(loops.mount(disk, type, "-q", ...options));
      const ranges = await rangesOf(disk, rootsWith(t, file, FILE_BYTES - PAGE_BYTES));
      assert.ok(ranges.length > 1, "the file is in several pieces");

      const image = fs.readFileSync(disk.backingFile);
      let leftOut = 0;
      for (const { sector, count } of ranges)
        for (let at = sector * 512; at < (sector + count) * 512; at += BLOCK_BYTES) {
          const block = image.subarray(at, at + BLOCK_BYTES);
          assert.ok(isOfPattern(block), `byte ${at} of the disk is the swap file's`);
          block.fill(0);
          leftOut += BLOCK_BYTES;
        }
      assert.equal(leftOut, FILE_BYTES - PAGE_BYTES);
      assert.ok(
        !image.includes(PATTERN.repeat(BLOCK_BYTES / PATTERN.length)),
        "no block of it is left",
      );

      // What a replica gets: a file system that mounts, and a file that swapon takes.
      const replica = loops.create(diskBytes);
      writeSparsely(replica, image);
      const folder = loops.folder();
      runTool(
        "mount",
        "-t",
        type,
        ...(type === "xfs" ? ["-o", "nouuid"] : []),
        replica.path,
        folder,
      );
      loops.defer(() => void runTool("umount", folder));
      const there = fs.readFileSync(path.join(folder, "swap file"));
      assert.deepEqual(
        there.subarray(0, PAGE_BYTES),
        fs.readFileSync(file).subarray(0, PAGE_BYTES),
      );
      assert.equal(there.toString("latin1", PAGE_BYTES - 10, PAGE_BYTES), "SWAPSPACE2");
      assert.ok(!there.subarray(PAGE_BYTES).some((byte) => byte !== 0));
    },
  );

test(
  "what the kernel does not swap to is data: a file that is longer than its area",
  { skip },
  async (t) => {
    const loops = new LoopDisks(t);
    const disk = loops.create(DISK_BYTES);
    const file = swapFile(loops.mount(disk, "ext4", "-q", "-b", "4096"));
    const ranges = await rangesOf(disk, rootsWith(t, file, 4 * MIB));
    assert.equal(
      ranges.reduce((bytes, { count }) => bytes + count * 512, 0),
      4 * MIB,
    );
  },
);

test("a file system behind a partition's start", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  // This kernel shows no partitions of loop devices, so the second loop device is shown as one.
  const file = swapFile(loops.mount(disk, "ext4", "-q", "-b", "4096"));
  const whole = await rangesOf(disk, rootsWith(t, file, FILE_BYTES - PAGE_BYTES));
  const sysfs = fs.mkdtempSync("/run/osr-swap-");
  t.after(() => fs.rmSync(sysfs, { recursive: true }));
  fs.mkdirSync(path.join(sysfs, "block/disk/part"), { recursive: true });
  fs.writeFileSync(path.join(sysfs, "block/disk/part/start"), "2048\n");
  fs.mkdirSync(path.join(sysfs, "dev/block"), { recursive: true });
  fs.symlinkSync(
    "../../block/disk/part",
    path.join(sysfs, `dev/block/${disk.major}:${disk.minor}`),
  );
  const dev = path.join(sysfs, "dev-files");
  fs.mkdirSync(dev);
  const shifted = loops.create(DISK_BYTES + MIB);
  runTool("dd", `if=${disk.path}`, `of=${shifted.path}`, "bs=1M", "seek=1", "conv=notrunc");
  fs.symlinkSync(shifted.path, path.join(dev, "disk"));
  const roots = { ...rootsWith(t, file, FILE_BYTES - PAGE_BYTES), sysfs, dev };
  const ranges = swapRangesOf({ name: "disk", sizeBytes: DISK_BYTES + MIB }, roots);
  assert.deepEqual(
    ranges,
    whole.map(({ sector, count }) => ({ sector: sector + 2048, count })),
  );
  // The same, but the disk does not have the file where it should be.
  fs.rmSync(path.join(dev, "disk"));
  fs.symlinkSync(disk.path, path.join(dev, "disk"));
  assert.deepEqual(swapRangesOf({ name: "disk", sizeBytes: DISK_BYTES }, roots), []);
});

test("btrfs translates places, so its swap files are data", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(2 * DISK_BYTES);
  const folder = loops.mount(disk, "btrfs", "-q");
  runTool("chattr", "+C", folder);
  const roots = rootsWith(t, swapFile(folder), FILE_BYTES - PAGE_BYTES);
  assert.deepEqual(await rangesOf(disk, roots), []);
});

test("a file that is no swap area, or is gone, is data", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = loops.mount(disk, "ext4", "-q", "-b", "4096");
  const file = path.join(folder, "data");
  fs.writeFileSync(file, Buffer.alloc(MIB, 7), { flush: true });
  assert.deepEqual(await rangesOf(disk, rootsWith(t, file, MIB - PAGE_BYTES)), []);
  assert.deepEqual(await rangesOf(disk, rootsWith(t, `${file} (deleted)`, MIB)), []);
});

test("a swap file that was made anew under its name is another one", { skip }, (t) => {
  const loops = new LoopDisks(t);
  const folder = loops.mount(loops.create(DISK_BYTES), "ext4", "-q", "-b", "4096");
  const file = swapFile(folder);
  const roots = rootsWith(t, file, FILE_BYTES - PAGE_BYTES);
  const before = swapNames(roots);
  assert.equal(swapNames(roots), before);
  fs.rmSync(file);
  swapFile(folder);
  assert.notEqual(swapNames(roots), before);
});
