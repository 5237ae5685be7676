import { existsSync } from "node:fs";
import { readFile, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { SECOND_MS } from "@osr/base/units";

/** What ends by itself after a run, such as a process that was just killed, gets this long. */
const GRACE_MS = 3 * SECOND_MS;
const POLL_MS = 250;

const NAMESPACES = "/run/netns";
const INSTANCES = "/sys/kernel/tracing/instances";
const PROGRAMS = "/sys/fs/bpf";

/** Things without an owner that outlive a process: network namespaces, tracefs instances and pinned programs, by path. */
export async function ownedByMachine(): Promise<ReadonlySet<string>> {
  const paths = [NAMESPACES, INSTANCES, PROGRAMS].map(async (folder) =>
    (await entries(folder)).map((name) => join(folder, name)),
  );
  return new Set((await Promise.all(paths)).flat());
}

/**
 * What a run left behind: the run's folder, processes that name it or stand in it, its mounts and loop devices; and network
 * namespaces, tracefs instances and pinned programs that were not there before and that no process uses. Those of other runs
 * on the machine have their users.
 */
export async function newLeaks(
  before: ReadonlySet<string>,
  runFolder: string,
): Promise<readonly string[]> {
  const end = performance.now() + GRACE_MS;
  for (;;) {
    const leaks = [
      ...(runFolder === "" ? [] : await leaksOf(runFolder)),
      ...(await unused([...(await ownedByMachine())].filter((path) => !before.has(path)))),
    ];
    if (leaks.length === 0 || performance.now() > end) return leaks;
    await wait(POLL_MS);
  }
}

async function leaksOf(folder: string): Promise<string[]> {
  const processes = await processesOf(folder);
  const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .filter((line) => line.includes(folder));
  const loops: string[] = [];
  for (const name of await entries("/sys/block")) {
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "");
    if (file.includes(folder)) loops.push(name);
  }
  return [
    ...processes.map(({ pid, name }) => `process ${pid} ${name}`),
    ...mounts.map((line) => `mount ${line}`),
    ...loops.map((name) => `loop device ${name}`),
    ...(existsSync(folder) ? [`folder ${folder}`] : []),
  ];
}

/** Those of the namespaces, instances and programs that no process stands in or holds open. */
async function unused(paths: readonly string[]): Promise<readonly string[]> {
  if (paths.length === 0) return [];
  const inodes = new Map<string, string>();
  for (const path of paths) {
    const inode = await inodeOf(path);
    if (inode !== undefined) inodes.set(inode, path);
  }
  const used = new Set<string>();
  for (const pid of await processIds()) {
    const namespace = inodes.get((await inodeOf(`/proc/${pid}/ns/net`)) ?? "");
    if (namespace !== undefined) used.add(namespace);
    for (const fd of await entries(`/proc/${pid}/fd`)) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
      const instance = paths.find((path) => `${target}/`.startsWith(`${path}/`));
      if (instance !== undefined) used.add(instance);
    }
  }
  return [...inodes.values()].filter((path) => !used.has(path));
}

export type ForeignProcess = { readonly pid: number; readonly name: string };

/** Processes, other than this one, with `path` in their command line or as part of their working folder. */
export async function processesOf(path: string): Promise<readonly ForeignProcess[]> {
  const found: ForeignProcess[] = [];
  for (const pid of await processIds()) {
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    const folder = await readlink(`/proc/${pid}/cwd`).catch(() => "");
    if (command.includes(path) || folder.startsWith(path))
      found.push({ pid, name: command.replaceAll("\0", " ").trim() });
  }
  return found;
}

async function processIds(): Promise<readonly number[]> {
  const names = await entries("/proc");
  return names.map(Number).filter((pid) => Number.isSafeInteger(pid) && pid !== process.pid);
}

/** Also of which file system: another one may have the same number. */
async function inodeOf(path: string): Promise<string | undefined> {
  return stat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  );
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
