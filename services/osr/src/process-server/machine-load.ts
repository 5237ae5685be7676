import { availableParallelism, freemem, loadavg, totalmem } from "node:os";

export type MachineLoad = { readonly cpuPermille: number; readonly memoryPermille: number };

/** How busy this machine is: the load of the last minute for each of its CPUs, and memory that is not free. From 0 to 1000. */
export function machineLoad(): MachineLoad {
  const [load = 0] = loadavg();
  return {
    cpuPermille: permille(load / availableParallelism()),
    memoryPermille: permille(1 - freemem() / totalmem()),
  };
}

function permille(share: number): number {
  return Math.round(Math.min(1, Math.max(0, share)) * 1000);
}
