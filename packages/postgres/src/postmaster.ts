import { readFileSync } from "node:fs";
import { join } from "node:path";

import { systemErrorCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";

import type { ServerFolder } from "./server-folder.ts";

const POLL_MS = 20;

/** The process that serves the folder at the moment, or undefined. */
export function postmasterOf(folder: ServerFolder): number | undefined {
  let lines: string[];
  try {
    lines = readFileSync(join(folder.data, "postmaster.pid"), "utf8").split("\n");
  } catch {
    return undefined;
  }
  const pid = Number(lines[0]);
  // After a reboot the number may belong to anybody: the command line must name our folder.
  return Number.isInteger(pid) && pid > 1 && commandLine(pid).includes(folder.data)
    ? pid
    : undefined;
}

/** False for a process that has ended, also where nobody has taken note of its end yet. */
export function isRunning(pid: number): boolean {
  if (pid === 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return systemErrorCode(error) === "EPERM";
  }
  return !/^\d+ \(.*\) Z/s.test(readProc(pid, "stat"));
}

/** Fast shutdown (SIGINT); after `msMax` an immediate one (SIGQUIT), from which PostgreSQL recovers at its next start. */
export async function stopPostmaster(
  pid: number,
  msMax: number,
  scheduler: Scheduler,
): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    send(pid, signal);
    for (let waitedMs = 0; waitedMs < msMax; waitedMs += POLL_MS) {
      if (!isRunning(pid)) return;
      await scheduler.sleep(POLL_MS);
    }
  }
  send(pid, "SIGKILL");
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (systemErrorCode(error) !== "ESRCH") throw error;
  }
}

function commandLine(pid: number): string {
  return readProc(pid, "cmdline").replaceAll("\0", " ");
}

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return "";
  }
}
