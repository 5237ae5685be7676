import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

import type { MachinePaths } from "./machine-paths.ts";
import { type ProcessIdentity, isAlive } from "./process-identity.ts";
import { queryRunState } from "./qemu-control.ts";
import { type QmpClient, connectQmp } from "./qmp-client.ts";
import type { QmpEvent } from "./qmp-event.ts";

const CONNECT_TIMEOUT_MS = 5 * SECOND_MS;
const RECONNECT_MS = SECOND_MS;
/** A machine that was paused by a failing disk is let go on so often; it is paused again where the disk still fails. */
const RESUME_MS = 5 * SECOND_MS;

export type SupervisorOptions = {
  readonly paths: MachinePaths;
  readonly process: ProcessIdentity;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** The guest turned itself off; QEMU waits to be ended. */
  readonly onGuestOff: () => Promise<void>;
  /** QEMU has ended. */
  readonly onEnded: () => Promise<void>;
};

/**
 * Watches one machine by QEMU's events for as long as its process lives: ends QEMU when the guest turned itself off, and
 * lets a machine that waits for a failing disk go on once the disk answers again.
 */
export class MachineSupervisor implements AsyncDisposable {
  readonly #options: SupervisorOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #guestHasPanicked = false;
  #isResuming = false;
  #tasks = new Set<Promise<void>>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** True from a panic of the guest's kernel until its next reset. */
  get guestHasPanicked(): boolean {
    return this.#guestHasPanicked;
  }

  /** Stops watching; the machine is left as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await Promise.all(this.#tasks);
  }

  async #run(): Promise<void> {
    const { process, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        if (!(await isAlive(process))) {
          // Not awaited: who is told may dispose of us, and that waits for this loop.
          this.#begin(this.#options.onEnded);
          return;
        }
        await this.#watch(signal);
        await this.#options.scheduler.sleep(RECONNECT_MS / 10, signal);
      } catch (error) {
        if (signal.aborted) return;
        log.debug("machine's events are not available", { error: messageOf(error) });
        await this.#options.scheduler.sleep(RECONNECT_MS, signal).catch(() => undefined);
      }
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { paths, scheduler } = this.#options;
    using qmp = await connectQmp({
      socketPath: paths.eventsSocket,
      scheduler,
      timeoutMs: CONNECT_TIMEOUT_MS,
      signal,
      onEvent: (event, client) => this.#react(event, client),
    });
    // What happened before we were connected shows in the run state only.
    const state = await queryRunState(qmp);
    if (state === "shutdown") this.#begin(this.#options.onGuestOff);
    if (state === "io-error") this.#begin(() => this.#resumeUntilRunning(qmp));
    const stop = (): void => qmp[Symbol.dispose]();
    signal.addEventListener("abort", stop, { once: true });
    await qmp.closed;
    signal.removeEventListener("abort", stop);
  }

  #react(event: QmpEvent, qmp: QmpClient): void {
    const { log } = this.#options;
    switch (event.name) {
      case "SHUTDOWN":
        log.info("machine's power is off", { reason: event.reason });
        if (event.guest) this.#begin(this.#options.onGuestOff);
        break;
      case "RESET":
        this.#guestHasPanicked = false;
        log.info("machine was reset", { reason: event.reason });
        break;
      case "GUEST_PANICKED":
        this.#guestHasPanicked = true;
        log.error("the guest's kernel has panicked");
        break;
      case "BLOCK_IO_ERROR":
        if (!this.#isResuming) log.error("a disk of the machine fails; the machine waits", event);
        this.#begin(() => this.#resumeUntilRunning(qmp));
        break;
      case "STOP":
      case "RESUME":
      case "OTHER":
        break;
    }
  }

  async #resumeUntilRunning(qmp: QmpClient): Promise<void> {
    if (this.#isResuming) return;
    this.#isResuming = true;
    try {
      do {
        await this.#options.scheduler.sleep(RESUME_MS, this.#stopping.signal);
        if ((await queryRunState(qmp)) === "io-error") await qmp.execute("cont");
        await this.#options.scheduler.sleep(RESUME_MS / 10, this.#stopping.signal);
      } while ((await queryRunState(qmp)) === "io-error");
      this.#options.log.info("the disk answers again; the machine goes on");
    } finally {
      this.#isResuming = false;
    }
  }

  #begin(task: () => Promise<void>): void {
    const running = task()
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#options.log.warn("supervising the machine", { error: messageOf(error) });
      })
      .finally(() => this.#tasks.delete(running));
    this.#tasks.add(running);
  }
}
