import { createInterface } from "node:readline";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { SECOND_MS } from "@osr/base/units";
import { NODE_FLAGS } from "@osr/service-mobility-service/node-flags";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { endChild, spawnTied } from "../machine/command.ts";
import type { TrackedReport } from "./tracking-process.ts";

const MAIN = join(import.meta.dirname, "tracking-process.ts");
const STOP_MS_MAX = 10 * SECOND_MS;

/** A process that can track a disk; disposing it ends it. */
export type TrackingChild = AsyncDisposable & {
  on(): Promise<void>;
  /** What was tracked since `on`. Throws BENCH_WRONG where the kernel lost events, or none came: it would cost nothing, too. */
  off(): Promise<TrackedReport>;
};

export async function startTracking(diskName: string): Promise<TrackingChild> {
  // As the service runs: its flags decide how fast events are read.
  const child = spawnTied(process.execPath, [...NODE_FLAGS, MAIN, diskName], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface(must(child.stdout, "its output is a pipe"))[Symbol.asyncIterator]();
  const answer = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done !== true) return line.value;
    throw new OsrError(BENCH_ERRORS.BENCH_COMMAND_FAILED, "the tracking process has ended");
  };
  const ask = (word: string): Promise<string> => {
    child.stdin?.write(`${word}\n`);
    return answer();
  };
  await answer();
  return {
    async on() {
      await ask("on");
    },
    async off() {
      const report = JSON.parse(await ask("off")) as TrackedReport;
      if (report.lost || report.changes === 0)
        throw new OsrError(
          BENCH_ERRORS.BENCH_WRONG,
          `tracking did not work: ${JSON.stringify(report)}`,
        );
      return report;
    },
    async [Symbol.asyncDispose]() {
      child.stdin?.end();
      await endChild(child, STOP_MS_MAX);
    },
  };
}
