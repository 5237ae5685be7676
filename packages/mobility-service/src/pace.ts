import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

export type PacePorts = { readonly clock: Clock; readonly scheduler: Scheduler };

/** Spreads work over time: at most so many bytes a second, over all who share it. */
export class Pace {
  readonly #bytesPerSecond: number;
  readonly #ports: PacePorts;
  #freeMs = 0;

  constructor(bytesPerSecond: number, ports: PacePorts) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#ports = ports;
  }

  /** Waits until `bytes` more may be worked on. Rejects with the signal's reason. */
  async wait(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#ports.clock.monotonicMs();
    const startMs = Math.max(nowMs, this.#freeMs);
    this.#freeMs = startMs + (bytes / this.#bytesPerSecond) * SECOND_MS;
    if (startMs > nowMs) await this.#ports.scheduler.sleep(startMs - nowMs, signal);
  }
}
