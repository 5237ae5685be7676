import { cpus, freemem, totalmem } from "node:os";

import type { LoadShares } from "@osr/process-server/load-watch";

export type MachineLoad = { readonly cpuPermille: number; readonly memoryPermille: number };

type CpuTime = { readonly busyMs: number; readonly totalMs: number };

/** How busy this machine is, from 0 to 1000: its CPUs since the last question, and memory that is not free. */
export class LoadMeter {
  #last = cpuTime();

  load(): MachineLoad {
    const { cpu, memory } = this.shares();
    return { cpuPermille: Math.round(cpu * 1000), memoryPermille: Math.round(memory * 1000) };
  }

  /** The same, from 0 to 1. */
  shares(): LoadShares {
    const now = cpuTime();
    const { busyMs, totalMs } = this.#last;
    this.#last = now;
    const elapsedMs = now.totalMs - totalMs;
    return {
      cpu: share(elapsedMs > 0 ? (now.busyMs - busyMs) / elapsedMs : 0),
      memory: share(1 - freemem() / totalmem()),
    };
  }
}

/** Of all CPUs, since the boot. */
function cpuTime(): CpuTime {
  let busyMs = 0;
  let totalMs = 0;
  for (const { times } of cpus()) {
    const { user, nice, sys, irq, idle } = times;
    busyMs += user + nice + sys + irq;
    totalMs += user + nice + sys + irq + idle;
  }
  return { busyMs, totalMs };
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}
