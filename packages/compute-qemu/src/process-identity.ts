import { readFile } from "node:fs/promises";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import { type Shape, integer, object, text } from "@osr/base/json-shape";
import type { Scheduler } from "@osr/base/scheduler";

import { COMPUTE_ERRORS } from "./compute-errors.ts";

/** A process and no other: pids are used again, but not with the same start time in the same boot of the host. */
export type ProcessIdentity = {
  readonly pid: number;
  /** Clock ticks from the boot of the host to the start of the process. */
  readonly startTicks: number;
  readonly bootId: string;
};

export const processIdentityShape: Shape<ProcessIdentity> = object({
  pid: integer(2),
  startTicks: integer(0),
  bootId: text(64),
});

const POLL_MS = 20;

/** Who has `pid` now; undefined where nobody has, or only a zombie that waits for its parent. */
export async function identityOf(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readOrUndefined(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses and may hold anything, blanks and parentheses too.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  const startTicks = Number(fields[19]);
  const bootId = await bootIdOf();
  return Number.isSafeInteger(startTicks) ? { pid, startTicks, bootId } : undefined;
}

/** The process that a pid file names, if its command line names that pid file too. */
export async function daemonOf(pidFile: string): Promise<ProcessIdentity | undefined> {
  const pid = Number((await readOrUndefined(pidFile))?.trim());
  if (!Number.isSafeInteger(pid) || pid < 2) return undefined;
  const identity = await identityOf(pid);
  const commandLine = await readOrUndefined(`/proc/${pid}/cmdline`);
  const names = commandLine?.split("\0").some((argument) => argument.endsWith(pidFile)) ?? false;
  return names ? identity : undefined;
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identityOf(identity.pid);
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

/** Sends `signal` to that process and to no other that has its pid meanwhile. */
export async function signalProcess(
  identity: ProcessIdentity,
  signal: "SIGTERM" | "SIGKILL",
): Promise<void> {
  if (!(await isAlive(identity))) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if (systemErrorCode(error) !== "ESRCH") throw error;
  }
}

/** True once the process has ended, false where it has not within `timeoutMs`. */
export async function hasEnded(
  identity: ProcessIdentity,
  scheduler: Scheduler,
  timeoutMs: number,
): Promise<boolean> {
  for (let waitedMs = 0; waitedMs <= timeoutMs; waitedMs += POLL_MS) {
    if (!(await isAlive(identity))) return true;
    await scheduler.sleep(POLL_MS);
  }
  return false;
}

/** Ends the process at once. Throws MACHINE_NOT_ENDED where the kernel cannot end it within `timeoutMs`. */
export async function killProcess(
  identity: ProcessIdentity,
  scheduler: Scheduler,
  timeoutMs: number,
): Promise<void> {
  await signalProcess(identity, "SIGKILL");
  if (await hasEnded(identity, scheduler, timeoutMs)) return;
  throw new OsrError(
    COMPUTE_ERRORS.MACHINE_NOT_ENDED,
    `process ${identity.pid} did not end within ${timeoutMs} ms of SIGKILL`,
  );
}

/** Changes with every boot of the host. */
export async function bootIdOf(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

async function readOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ESRCH" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
