import { existsSync } from "node:fs";
import { readFile, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { SECOND_MS } from "@osr/base/units";

/** What ends by itself after a run, such as a process that was just killed, gets this long. */
const GRACE_MS = 3 * SECOND_MS;
const POLL_MS = 250;

/** Things that outlive a process: mounts, loop devices, network namespaces, tracefs instances. */
export async function ownedByMachine(): Promise<ReadonlySet<string>> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .map((line) => line.split(" ")[4])
    .filter((path) => path !== undefined)
    .map((path) => `mount ${path}`);
  const loops = (await entries("/sys/block"))
    .filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`))
    .map((name) => `loop device ${name}`);
  const namespaces = (await entries("/run/netns")).map((name) => `network namespace ${name}`);
  const instances = (await entries("/sys/kernel/tracing/instances")).map(
    (name) => `tracefs instance ${name}`,
  );
  return new Set([...mounts, ...loops, ...namespaces, ...instances]);
}

/**
 * What a run left behind: anything of `ownedByMachine` that was not there before, processes that name or stand in the
 * run's folder, the folder itself.
 */
export async function newLeaks(
  before: ReadonlySet<string>,
  runFolder: string,
): Promise<readonly string[]> {
  const end = performance.now() + GRACE_MS;
  for (;;) {
    const after = await ownedByMachine();
    const leaks = [...after].filter((each) => !before.has(each));
    if (runFolder !== "") {
      leaks.push(
        ...(await processesOf(runFolder)).map(({ pid, name }) => `process ${pid} ${name}`),
      );
      if (existsSync(runFolder)) leaks.push(`folder ${runFolder}`);
    }
    if (leaks.length === 0 || performance.now() > end) return leaks;
    await wait(POLL_MS);
  }
}

export type ForeignProcess = { readonly pid: number; readonly name: string };

/** Processes, other than this one, with `path` in their command line or as part of their working folder. */
export async function processesOf(path: string): Promise<readonly ForeignProcess[]> {
  const found: ForeignProcess[] = [];
  for (const entry of await entries("/proc")) {
    const pid = Number(entry);
    if (!Number.isSafeInteger(pid) || pid === process.pid) continue;
    const command = await readFile(join("/proc", entry, "cmdline"), "latin1").catch(() => "");
    const folder = await readlink(join("/proc", entry, "cwd")).catch(() => "");
    if (command.includes(path) || folder.startsWith(path))
      found.push({ pid, name: command.replaceAll("\0", " ").trim().slice(0, 120) });
  }
  return found;
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
