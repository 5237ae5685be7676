import { appendFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { CrashPoint } from "@osr/vault/jobs/crash-point";

const PASSED_FILE = "passed";
const KILL_FILE = "kill";

/**
 * For tests of what a crash leaves. `folder` is theirs, and production has none: each point that a job gets to is added to its file `passed`, and the
 * first job at the point that its file `kill` names takes that file away and ends the process by `die`, so that the next process goes on.
 */
export function crashPointsOf(folder: string, die: () => void): CrashPoint {
  const kill = join(folder, KILL_FILE);
  return (name) => {
    appendFileSync(join(folder, PASSED_FILE), `${name}\n`);
    if (!existsSync(kill) || readFileSync(kill, "utf8").trim() !== name) return;
    rmSync(kill);
    die();
  };
}
