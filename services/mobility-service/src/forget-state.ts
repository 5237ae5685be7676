import { rmSync } from "node:fs";
import { dirname, join } from "node:path";

import { removeSystemTracker } from "@osr/block-device/system-tracker";

import { readConfiguration } from "./configuration.ts";
import { keptStateFile } from "./kept-state-file.ts";
import { becomeAgent } from "./living-agent.ts";
import { LEARNING_INSTANCE, TRACKER_INSTANCE } from "./trace-instances.ts";

/**
 * Removes what an agent that was killed has left for its successor, as before the service is uninstalled: a clean stop leaves
 * nothing. Throws TRACKER_BUSY where an agent lives.
 */
export function forgetState(configurationFile: string): void {
  const folder = dirname(readConfiguration(configurationFile).statusFile);
  const agentFile = becomeAgent(folder);
  for (const name of [TRACKER_INSTANCE, LEARNING_INSTANCE]) removeSystemTracker(name);
  rmSync(keptStateFile(folder), { force: true });
  rmSync(join(folder, agentFile), { force: true });
}
