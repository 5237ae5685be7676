import { MINUTE_MS } from "@osr/base/units";

import { type Timed, timedCommand } from "../machine/command.ts";
import type { SuiteContext } from "../suite.ts";
import type { Replication } from "./replication.ts";

const LIMIT_MS = 15 * MINUTE_MS;

/** Writes the disk as it was at the newest point to a new file, durably: `osr repository materialise` as a whole. */
export async function materialise(
  { signal }: SuiteContext,
  replication: Replication,
  path: string,
): Promise<Timed & { readonly path: string }> {
  const words = [
    ["repository", "materialise", "--point", "latest"],
    ["--disk", replication.loop.name, "--out", path],
  ].flat();
  const command = replication.site.command(words);
  const timed = await timedCommand(process.execPath, command, { timeoutMs: LIMIT_MS, signal });
  return { ...timed, path };
}
