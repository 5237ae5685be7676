import { readFileSync } from "node:fs";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { type ProcessServerConfig, ProcessServer } from "./process-server.ts";
import { openAuthority, openStore } from "./testbed.contract.ts";
import { WorkerEncoder } from "./worker-encoder.ts";

/** A process server in a process of its own, to be killed: `node kill-server.contract.ts CONFIG_FILE`. */
export type KillServerConfig = {
  readonly storeFolder: string;
  readonly config: ProcessServerConfig;
};

async function main(): Promise<void> {
  const text = readFileSync(process.argv[2] ?? "", "utf8");
  const { storeFolder, config } = JSON.parse(text) as KillServerConfig;
  const store = await openStore(storeFolder);
  const server = new ProcessServer(config, {
    clock: systemClock,
    scheduler: systemScheduler,
    randomness: systemRandomness,
    log: silentLog,
    store,
    encoder: new WorkerEncoder(silentLog),
    authority: openAuthority(store),
  });
  const running = server.run();
  const { port } = await server.listening;
  process.stdout.write(`${port}\n`);
  await running;
}

if (import.meta.main) await main();
