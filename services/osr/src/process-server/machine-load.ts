import { availableParallelism, freemem, loadavg, totalmem } from "node:os";

import type { LoadShares } from "@osr/process-server/load-watch";

export type MachineLoad = { readonly cpuPermille: number; readonly memoryPermille: number };

/** How busy this machine is: the load of the last minute for each of its CPUs, and memory that is not free. From 0 to 1000. */
export function machineLoad(): MachineLoad {
  const [load = 0] = loadavg();
  return {
    cpuPermille: permille(load / availableParallelism()),
    memoryPermille: permille(1 - freemem() / totalmem()),
  };
}

/** The same, from 0 to 1, as a process server wants it. */
export function machineLoadShares(): LoadShares {
  const { cpuPermille, memoryPermille } = machineLoad();
  return { cpu: cpuPermille / 1000, memory: memoryPermille / 1000 };
}

function permille(share: number): number {
  return Math.round(Math.min(1, Math.max(0, share)) * 1000);
}
