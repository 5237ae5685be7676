import { createInterface } from "node:readline";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, spawnTied } from "../machine/command.ts";
import { cpuSecondsOf } from "../machine/process-usage.ts";
import type { SuiteContext } from "../suite.ts";
import type { Replication } from "./replication.ts";

const READY_MS_MAX = MINUTE_MS;
const STOP_MS_MAX = 20 * SECOND_MS;

/** The newest point of a replicated disk, served by `osr repository serve`; disposing it ends the process. */
export type NbdExport = AsyncDisposable & {
  readonly uri: string;
  readonly socketPath: string;
  /** From the start of its process until it said that it serves. */
  readonly readyMs: number;
  readonly cpuSeconds: () => number;
};

export async function serveNewestPoint(
  context: SuiteContext,
  suite: string,
  replication: Replication,
  directory: string,
): Promise<NbdExport> {
  const begin = performance.now();
  const words = [
    ["repository", "serve", "--point", "latest"],
    ["--disk", replication.loop.name, "--socket-directory", directory],
  ].flat();
  const child = spawnTied(process.execPath, replication.site.command(words), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const pid = must(child.pid, "the export runs");
  const end = async (): Promise<void> => {
    context.peaks.look("NBD", suite, pid);
    await endChild(child, STOP_MS_MAX);
  };
  try {
    const lines = createInterface(must(child.stdout, "its output is a pipe"));
    const ready = (async () => {
      for await (const line of lines) if (line.startsWith("ready")) return true;
      return false;
    })();
    const limit = wait(READY_MS_MAX, false, { ref: false, signal: context.signal });
    if (!(await Promise.race([ready, limit])))
      throw new OsrError(BENCH_ERRORS.BENCH_COMMAND_FAILED, "osr repository serve is not ready");
    const readyMs = performance.now() - begin;
    const socketPath = join(directory, `${replication.loop.name}.sock`);
    return {
      uri: `nbd+unix:///?socket=${socketPath}`,
      socketPath,
      readyMs,
      cpuSeconds: () => cpuSecondsOf([pid]),
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}
