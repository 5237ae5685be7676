import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import type { Service } from "@osr/base/service";
import { SECOND_MS } from "@osr/base/units";

import { health } from "./machine-disk.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { MobilityStatus } from "./mobility-status.ts";

const STATUS_MS = SECOND_MS;

export type ReplicaServiceOptions = {
  /** Why this is not the machine that was enrolled. */
  readonly mismatch: string;
  /** Address of the process server that the enrolled machine uses. */
  readonly processServer: string;
  readonly writeStatus: (status: MobilityStatus) => Promise<void>;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/** The agent in a copy of its machine: tracks, freezes and sends nothing, and says so until it is stopped. */
export class ReplicaService implements Service {
  readonly #options: ReplicaServiceOptions;
  readonly #stopping = new AbortController();

  constructor(options: ReplicaServiceOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { mismatch, scheduler, log, writeStatus } = this.#options;
    const { signal } = this.#stopping;
    const { code, hint } = MOBILITY_ERRORS.MACHINE_IS_REPLICA;
    log.error("this machine is a copy of the enrolled one: it is not replicated", {
      code,
      hint,
      mismatch,
    });
    while (!signal.aborted) {
      await writeStatus(this.#status("replica")).catch((error: unknown) =>
        log.warn("cannot write the status", { error }),
      );
      await scheduler.sleep(STATUS_MS, signal).catch(() => undefined);
    }
    await writeStatus(this.#status("stopped")).catch(() => undefined);
  }

  stop(): Promise<void> {
    this.#stopping.abort();
    return Promise.resolve();
  }

  #status(state: MobilityStatus["state"]): MobilityStatus {
    const { clock, mismatch, processServer } = this.#options;
    return {
      state,
      unixMs: Math.floor(clock.unixMs()),
      processServer,
      disks: [],
      pointsMade: 0,
      pointsMissed: 0,
      missedReasons: {},
      health: [health(MOBILITY_ERRORS.MACHINE_IS_REPLICA, mismatch)],
    };
  }
}
