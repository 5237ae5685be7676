import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import type { Clock } from "@osr/base/clock";
import { messageOf } from "@osr/base/errors";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB } from "@osr/base/units";

import { ChangeList } from "./change-tracker.contract.ts";
import type { Freezer } from "./freezer.ts";
import { createSystemFreezer } from "./system-freezer.ts";
import { type LoopDisk, LoopDisks, loopSkipReason, runTool } from "./testing/loop-disk.ts";
import { mountedTracefs } from "./tracefs.ts";
import { TracefsTracker, eventDeviceOf } from "./tracefs-tracker.ts";

const DISK_BYTES = 16 * MIB;
const NEVER_MS = Number.MAX_SAFE_INTEGER;
const RCU_EXPEDITED = "/sys/kernel/rcu_expedited";

const skipReason =
  process.getBuiltinModule("node:ffi") === undefined
    ? "needs node:ffi"
    : loopSkipReason("mkfs.ext4", "fsfreeze", "timeout", "unshare");
const skip = skipReason ?? false;

test("where Node has no node:ffi, the error names the flag", () => {
  const module = new URL("linux-calls.ts", import.meta.url).href;
  const script = `const { linuxCalls } = await import(${JSON.stringify(module)});
    try { linuxCalls(); } catch (error) { process.stdout.write(error.code + " " + error.message); }`;
  const args = ["--no-experimental-ffi", "--input-type=module", "-e", script];
  const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 60_000 });
  assert.match(stdout, /^FFI_UNAVAILABLE .*--experimental-ffi/);
});

function freezerOf(
  disks: readonly LoopDisk[],
  options: { guardLimitMs?: number; clock?: Clock } = {},
): { prepare(): ReturnType<Freezer["prepare"]> } {
  const freezer = createSystemFreezer({
    guardLimitMs: options.guardLimitMs ?? 10_000,
    clock: options.clock ?? systemClock,
    scheduler: systemScheduler,
    log: silentLog,
  });
  return { prepare: () => freezer.prepare(disks) };
}

/** A mounted ext4, and a last resort should a test leave it frozen. */
function mountedExt4(loops: LoopDisks, disk: LoopDisk): string {
  const folder = loops.mount(disk, "ext4", "-q", "-b", "4096");
  loops.defer(() => {
    spawnSync("fsfreeze", ["--unfreeze", folder]);
  });
  return folder;
}

/** Writes and syncs for as long as the test lasts; resolves once it does. */
async function startWriter(loops: LoopDisks, folder: string): Promise<ChildProcess> {
  const script = `echo started; while :; do date >>"$1/log" && sync -d "$1/log" && echo .; done`;
  const child = spawn("sh", ["-c", script, "writer", folder], {
    stdio: ["ignore", "pipe", "ignore"],
    // Its tools end with it.
    detached: true,
  });
  loops.defer(() => end(child));
  await once(child.stdout, "data");
  child.stdout.resume();
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  if (!killGroup(child.pid)) child.kill("SIGKILL");
  await exited;
}

/** False where the process leads no group. */
function killGroup(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(-pid, "SIGKILL");
  } catch {
    return false;
  }
}

/** True where a write to the folder ends soon. The writer is a process, since a frozen one cannot be given up. */
async function canWrite(folder: string, limitMs = 2000): Promise<boolean> {
  const child = spawn("sh", ["-c", 'echo hello >>"$1/probe"', "probe", folder], {
    stdio: "ignore",
  });
  const limit = AbortSignal.timeout(limitMs);
  return await once(child, "exit", { signal: limit }).then(
    () => true,
    () => false,
  );
}

function waitSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test("frozen file systems take no writes, and drains are quiet", { skip }, async (t) => {
  try {
    mountedTracefs();
  } catch (error) {
    t.skip(messageOf(error));
    return;
  }
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = mountedExt4(loops, disk);
  using tracker = new TracefsTracker({
    name: `osr-test-freezer-${process.pid}`,
    ringBytesPerCpu: MIB,
  });
  tracker.add({
    eventDevices: [eventDeviceOf(disk)],
    sectorCount: DISK_BYTES / 512,
    ignoredRanges: [],
  });
  tracker.start();
  const writer = await startWriter(loops, folder);
  await using prepared = await freezerOf([disk]).prepare();
  assert.deepEqual(
    prepared.fileSystems.map(({ mountPoint, type, device }) => [mountPoint, type, device]),
    [[folder, "ext4", `${disk.major}:${disk.minor}`]],
  );
  const list = new ChangeList();
  for (let round = 0; round < 5; round++) {
    await wait(30);
    assert.ok(tracker.drain(list).changes > 0, "the writer writes");
    const syncMs = await prepared.sync(AbortSignal.timeout(10_000));
    assert.ok(syncMs >= 0 && syncMs < 10_000);
    const report = prepared.freeze(systemClock.monotonicMs() + 5000);
    assert.equal(report.frozen.length, 1);
    assert.equal(report.synced.length, 0);
    tracker.drain(list);
    for (let drain = 0; drain < 4; drain++) {
      waitSync(5);
      assert.deepEqual(tracker.drain(list), { changes: 0, lost: false });
    }
    prepared.thaw();
    prepared.thaw();
  }
  assert.equal(await canWrite(folder), true);
  await end(writer);
});

test(
  "a disk without a file system needs no freeze: what is written to it is no quiet drain",
  { skip },
  async (t) => {
    try {
      mountedTracefs();
    } catch (error) {
      t.skip(messageOf(error));
      return;
    }
    const disk = new LoopDisks(t).create(DISK_BYTES);
    using tracker = new TracefsTracker({
      name: `osr-test-freezer-raw-${process.pid}`,
      ringBytesPerCpu: MIB,
    });
    const sectorCount = DISK_BYTES / 512;
    tracker.add({ eventDevices: [eventDeviceOf(disk)], sectorCount, ignoredRanges: [] });
    tracker.start();
    await using prepared = await freezerOf([disk]).prepare();
    assert.deepEqual(prepared.fileSystems, []);
    await prepared.sync(AbortSignal.timeout(10_000));
    const report = prepared.freeze(systemClock.monotonicMs() + 5000);
    assert.deepEqual([report.frozen, report.synced], [[], []]);
    const list = new ChangeList();
    assert.deepEqual(tracker.drain(list), { changes: 0, lost: false });
    // Nothing holds it back, so a point taken now is none.
    runTool("dd", "if=/dev/zero", `of=${disk.path}`, "bs=4k", "count=1", "seek=7", "oflag=direct");
    assert.deepEqual(tracker.drain(list), { changes: 1, lost: false });
    assert.deepEqual(list.changes, ["0:56+8"]);
    assert.deepEqual(tracker.drain(list), { changes: 0, lost: false });
    prepared.thaw();
  },
);

test("a file system in a file of another is frozen first, thawed last", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const lower = loops.create(4 * DISK_BYTES);
  const lowerFolder = mountedExt4(loops, lower);
  const upper = loops.create(DISK_BYTES, lowerFolder);
  const upperFolder = mountedExt4(loops, upper);
  await startWriter(loops, upperFolder);
  await using prepared = await freezerOf([lower]).prepare();
  const mountPoints = prepared.fileSystems.map(({ mountPoint }) => mountPoint);
  assert.deepEqual(mountPoints, [upperFolder, lowerFolder]);
  for (let round = 0; round < 3; round++) {
    const report = prepared.freeze(systemClock.monotonicMs() + 5000);
    assert.deepEqual(report.frozen, prepared.fileSystems);
    prepared.thaw();
    assert.equal(await canWrite(upperFolder), true);
  }
});

test("a file system in another mount namespace is found and frozen", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = loops.folder();
  runTool("mkfs.ext4", "-q", disk.path);
  const script = `mount -t ext4 "$1" "$2" && echo mounted && exec sleep 60`;
  const args = ["--mount", "sh", "-c", script, "owner", disk.path, folder];
  const child = spawn("unshare", args, { stdio: ["ignore", "pipe", "ignore"] });
  loops.defer(() => end(child));
  await once(child.stdout, "data");
  await using prepared = await freezerOf([disk]).prepare();
  assert.equal(prepared.fileSystems.length, 1);
  assert.equal(prepared.fileSystems[0]?.openPath, `/proc/${child.pid}/root${folder}`);
  prepared.freeze(systemClock.monotonicMs() + 5000);
  assert.equal(await canWrite(`/proc/${child.pid}/root${folder}`, 300), false);
  prepared.thaw();
  assert.equal(await canWrite(`/proc/${child.pid}/root${folder}`), true);
});

test("a mount point that is hidden beneath another mount is not mistaken", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = mountedExt4(loops, disk);
  runTool("mount", "-t", "tmpfs", "tmpfs", folder);
  loops.defer(() => void runTool("umount", folder));
  {
    await using prepared = await freezerOf([disk]).prepare();
    assert.deepEqual(prepared.fileSystems, []);
  }
  const second = loops.folder();
  runTool("mount", disk.path, second);
  loops.defer(() => void runTool("umount", second));
  await using prepared = await freezerOf([disk]).prepare();
  assert.equal(prepared.fileSystems.length, 1);
  prepared.freeze(systemClock.monotonicMs() + 5000);
  assert.equal(await canWrite(second, 300), false);
  prepared.thaw();
});

test("the guard thaws when this process is killed", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = mountedExt4(loops, disk);
  const module = new URL("system-freezer.ts", import.meta.url).href;
  const script = `
      const { createSystemFreezer } = await import(${JSON.stringify(module)});
      const clock = { unixMs: () => 0, monotonicMs: () => performance.now() };
      const scheduler = { after: () => ({ [Symbol.dispose]() {} }) };
      const disks = [{ major: ${disk.major}, minor: ${disk.minor} }];
      const freezer = createSystemFreezer({ guardLimitMs: 60_000, clock, scheduler });
      const prepared = await freezer.prepare(disks);
      prepared.freeze(${NEVER_MS});
      // As if it died before the freeze was complete.
      const { writeFileSync, existsSync } = await import("node:fs");
      if (existsSync("${RCU_EXPEDITED}")) writeFileSync("${RCU_EXPEDITED}", "1");
      process.stdout.write("frozen\\n");
      setTimeout(() => {}, 60_000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => end(child));
  const [text] = (await once(child.stdout, "data")) as [Buffer];
  assert.equal(text.toString(), "frozen\n");
  assert.equal(await canWrite(folder, 300), false);
  const expedited = fs.existsSync(RCU_EXPEDITED);
  await end(child);
  assert.equal(await canWrite(folder, 5000), true);
  if (expedited) assert.equal(fs.readFileSync(RCU_EXPEDITED, "utf8"), "0\n");
});

test("a freeze that outlasts the guard's limit is told at the thaw", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = mountedExt4(loops, disk);
  await using prepared = await freezerOf([disk], { guardLimitMs: 1000 }).prepare();
  prepared.freeze(NEVER_MS);
  waitSync(1600);
  assert.equal(await canWrite(folder), true);
  assert.throws(() => prepared.thaw(), { code: "FREEZE_GUARD_THAWED" });
  prepared.thaw();
  assert.throws(() => prepared.freeze(NEVER_MS), { code: "FREEZE_GUARD_GONE" });
  await prepared.sync(AbortSignal.timeout(10_000));
  prepared.freeze(NEVER_MS);
  prepared.thaw();
  assert.equal(await canWrite(folder), true);
});

test("a freeze that overshoots its limit thaws what it froze", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
  const folders = disks.map((disk) => mountedExt4(loops, disk));
  // Time moves by 10 ms each time it is looked at.
  let nowMs = 0;
  const clock = { unixMs: () => 0, monotonicMs: () => (nowMs += 10) };
  await using prepared = await freezerOf(disks, { clock }).prepare();
  // One look at the guard, then one before each mount and one after the last.
  for (const looks of [1, 2, 3]) {
    assert.throws(() => prepared.freeze(nowMs + 10 * looks + 5), { code: "FREEZE_OVERSHOT" });
    for (const folder of folders) assert.equal(await canWrite(folder), true);
  }
  assert.equal(prepared.freeze(nowMs + 45).frozen.length, 2);
  prepared.thaw();
});

test(
  "a file system that somebody else froze is an error, and stays theirs",
  { skip },
  async (t) => {
    const loops = new LoopDisks(t);
    const disks = [loops.create(DISK_BYTES), loops.create(DISK_BYTES)];
    const folders = disks.map((disk) => mountedExt4(loops, disk));
    await using prepared = await freezerOf(disks).prepare();
    const last = prepared.fileSystems[1]?.mountPoint ?? "";
    const first = prepared.fileSystems[0]?.mountPoint ?? "";
    assert.deepEqual([first, last].toSorted(), folders.toSorted());
    runTool("fsfreeze", "--freeze", last);
    assert.throws(() => prepared.freeze(NEVER_MS), { code: "FREEZE_BUSY" });
    assert.equal(await canWrite(first), true);
    assert.equal(await canWrite(last, 300), false);
    runTool("fsfreeze", "--unfreeze", last);
  },
);

test("file systems that cannot be frozen are synced instead", { skip }, async (t) => {
  if (!fs.readFileSync("/proc/filesystems", "utf8").includes("squashfs")) {
    t.skip("this kernel has no squashfs");
    return;
  }
  const loops = new LoopDisks(t);
  const disks = [loops.create(MIB), loops.create(DISK_BYTES)];
  const [unfreezable, freezable] = disks;
  assert.ok(unfreezable !== undefined && freezable !== undefined);
  fs.writeFileSync(unfreezable.path, emptySquashfs());
  const folder = loops.folder();
  runTool("mount", "-t", "squashfs", unfreezable.path, folder);
  loops.defer(() => void runTool("umount", folder));
  const freezableFolder = mountedExt4(loops, freezable);
  await using prepared = await freezerOf(disks).prepare();
  const report = prepared.freeze(NEVER_MS);
  assert.deepEqual(
    report.synced.map(({ mountPoint }) => mountPoint),
    [folder],
  );
  assert.deepEqual(
    report.frozen.map(({ mountPoint }) => mountPoint),
    [freezableFolder],
  );
  prepared.thaw();
});

/** The smallest squashfs: the kernel has no way to freeze one, as is so with vfat, which few test machines have. */
function emptySquashfs(): Buffer {
  const image = Buffer.alloc(4096);
  const inodeTable = 96;
  const directoryTable = inodeTable + 2 + 32;
  const idBlock = directoryTable + 2 + 12;
  const idTable = idBlock + 2 + 4;
  const none = 2n ** 64n - 1n;
  image.write("hsqs");
  image.writeUInt32LE(1, 4);
  image.writeUInt32LE(131_072, 12);
  for (const [index, value] of [1, 17, 0x81b, 1, 4, 0].entries())
    image.writeUInt16LE(value, 20 + 2 * index);
  const places = [0, idTable + 8, idTable, none, inodeTable, directoryTable, none, none];
  for (const [index, place] of places.entries())
    image.writeBigUInt64LE(BigInt(place), 32 + 8 * index);
  // Uncompressed blocks: the root folder's inode (type, mode, number, links, size of nothing), its entries, one user id.
  image.writeUInt16LE(0x8000 + 32, inodeTable);
  image.writeUInt16LE(1, inodeTable + 2);
  image.writeUInt16LE(0o755, inodeTable + 4);
  image.writeUInt32LE(1, inodeTable + 14);
  image.writeUInt32LE(2, inodeTable + 22);
  image.writeUInt16LE(3, inodeTable + 26);
  image.writeUInt32LE(2, inodeTable + 30);
  image.writeUInt16LE(0x8000 + 12, directoryTable);
  image.writeUInt16LE(0x8000 + 4, idBlock);
  image.writeBigUInt64LE(BigInt(idBlock), idTable);
  return image;
}

for (const type of ["xfs", "btrfs"]) {
  test(
    `freezes ${type}`,
    { skip: skipReason ?? loopSkipReason(`mkfs.${type}`) ?? false },
    async (t) => {
      const loops = new LoopDisks(t);
      const disk = loops.create(320 * MIB);
      const folder = loops.mount(disk, type);
      await using prepared = await freezerOf([disk]).prepare();
      assert.equal(prepared.freeze(NEVER_MS).frozen[0]?.mountPoint, folder);
      assert.equal(await canWrite(folder, 300), false);
      prepared.thaw();
      assert.equal(await canWrite(folder), true);
    },
  );
}

test("releasing ends the guard, thaws, and closes what it opened", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  const folder = mountedExt4(loops, disk);
  const filesBefore = fs.readdirSync("/proc/self/fd").length;
  const prepared = await freezerOf([disk]).prepare();
  assert.ok(guardsOf(process.pid).length > 0);
  prepared.freeze(NEVER_MS);
  await prepared.release();
  await prepared.release();
  assert.equal(await canWrite(folder), true);
  assert.deepEqual(guardsOf(process.pid), []);
  assert.equal(fs.readdirSync("/proc/self/fd").length, filesBefore);
  assert.throws(() => prepared.freeze(NEVER_MS), { code: "INTERNAL_ASSERTION" });
});

test("a sync can be given up", { skip }, async (t) => {
  const loops = new LoopDisks(t);
  const disk = loops.create(DISK_BYTES);
  mountedExt4(loops, disk);
  await using prepared = await freezerOf([disk]).prepare();
  const reason = new Error("given up");
  await assert.rejects(prepared.sync(AbortSignal.abort(reason)), reason);
});

/** Process ids of the guards that a process started. */
function guardsOf(pid: number): readonly string[] {
  const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(/\s+/);
  return children.filter((child) => {
    if (child === "") return false;
    return fs.readFileSync(`/proc/${child}/cmdline`, "utf8").includes("osr-freeze-guard");
  });
}
