import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { ChangeTracker } from "@osr/block-device/change-tracker";
import type { Freezer, PreparedFreeze } from "@osr/block-device/freezer";

import type { DiskWatch, OpenedDisk } from "../disk-watch.ts";
import type { ProcessServerClient } from "../process-server-client.ts";
import type { SimulatedDisk, SimulatedMachine } from "./simulated-machine.ts";

/** The part of the machine that an agent calls. */
type AgentsMachine = ChangeTracker &
  DiskWatch &
  Freezer & {
    readonly disks: readonly SimulatedDisk[];
    readonly pause: (ms: number) => void;
    readonly beforeThaw: (cutId: Uuid) => void;
  };

/** Longer than anything waits in a loop. */
const DEAD_MS = 10 * MINUTE_MS;
/** A new one each time, so that nothing gathers on it. */
const never = (): Promise<never> => new Promise(() => undefined);

/**
 * The life of one agent: every call to the outside goes through it, and one of them may be its last. After that nothing that
 * the agent does has an effect, and nothing that it waits for ever comes.
 */
export class AgentLife {
  isEnded = false;
  #stepsLeft = Infinity;
  #onEnd: () => void = () => undefined;

  /** Ends at the `steps`-th call from now: before its effect or after it, in turns. */
  endAfter(steps: number, onEnd: () => void): void {
    this.#stepsLeft = steps;
    this.#onEnd = onEnd;
  }

  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.#onEnd();
  }

  /** Is far ahead for the dead, so that no loop of theirs goes on for ever. */
  clock(clock: Clock): Clock {
    return {
      unixMs: () => clock.unixMs(),
      monotonicMs: () => clock.monotonicMs() + (this.isEnded ? DEAD_MS : 0),
    };
  }

  scheduler(scheduler: Scheduler): Scheduler {
    return {
      sleep: (ms, signal) => this.#wait(() => scheduler.sleep(ms, signal)),
      after: (ms, task) =>
        scheduler.after(ms, () => {
          if (!this.isEnded) task();
        }),
    };
  }

  client(client: ProcessServerClient): ProcessServerClient {
    return {
      openSession: (...args) => this.#wait(() => client.openSession(...args)),
      sendBatch: (...args) => this.#wait(() => client.sendBatch(...args)),
      heartbeat: (...args) => this.#wait(() => client.heartbeat(...args)),
      openComparison: (...args) => this.#wait(() => client.openComparison(...args)),
      granuleHashes: (...args) => this.#wait(() => client.granuleHashes(...args)),
      blockHashes: (...args) => this.#wait(() => client.blockHashes(...args)),
    };
  }

  machine(machine: SimulatedMachine): AgentsMachine {
    return {
      disks: machine.disks.map((disk) => this.#opened(disk)),
      drainEveryMs: machine.drainEveryMs,
      start: () => machine.start(),
      resume: (position, traced) => machine.resume(position, traced),
      savePosition: (target) => machine.savePosition(target),
      add: (disk) => (this.isEnded ? 0 : machine.add(disk)),
      remove: (disk) => {
        if (!this.isEnded) machine.remove(disk);
      },
      setIgnoredRanges: (disk, ranges) => {
        if (!this.isEnded) machine.setIgnoredRanges(disk, ranges);
      },
      look: (known) =>
        this.#wait(async () => {
          const { appeared, vanished } = await machine.look(known);
          return { appeared: appeared.map((disk) => this.#opened(disk)), vanished };
        }),
      isLeftOut: (identity) => machine.isLeftOut(identity),
      isSwapCurrent: () => machine.isSwapCurrent(),
      tracedSectors: (disk) => machine.tracedSectors(disk),
      settledSectors: (disk) => machine.settledSectors(disk),
      mismatched: () => machine.mismatched(),
      drain: (sink) =>
        this.#do({ changes: 0, lost: false }, () =>
          machine.drain({
            changed: (...args) => {
              if (!this.isEnded) sink.changed(...args);
            },
            changedBlocks: (...args) => {
              if (!this.isEnded) sink.changedBlocks(...args);
            },
          }),
        ),
      prepare: () => this.#wait(async () => this.#prepared(await machine.prepare())),
      pause: (ms) => this.#do(undefined, () => machine.pause(ms)),
      beforeThaw: (cutId) => this.#do(undefined, () => machine.beforeThaw(cutId)),
      [Symbol.dispose]: () => this.#do(undefined, () => machine[Symbol.dispose]()),
    };
  }

  #opened<T extends OpenedDisk>(disk: T): T {
    const { reader } = disk;
    return {
      ...disk,
      reader: {
        ...reader,
        read: (offset, target) => this.#wait(() => reader.read(offset, target)),
        readSync: (offset, target) => this.#do(undefined, () => reader.readSync(offset, target)),
      },
    };
  }

  #prepared(prepared: PreparedFreeze): PreparedFreeze {
    const release = (): Promise<void> => this.#wait(() => prepared.release());
    return {
      fileSystems: prepared.fileSystems,
      sync: (signal) => this.#wait(() => prepared.sync(signal)),
      freeze: (deadlineMs) =>
        this.#do({ frozen: [], synced: [] }, () => prepared.freeze(deadlineMs)),
      thaw: () => this.#do(undefined, () => prepared.thaw()),
      release,
      [Symbol.asyncDispose]: release,
    };
  }

  #step(): void {
    this.#stepsLeft -= 1;
    if (this.#stepsLeft <= 0) this.end();
  }

  #do<T>(nothing: T, call: () => T): T {
    this.#step();
    if (this.isEnded) return nothing;
    const result = call();
    this.#step();
    return this.isEnded ? nothing : result;
  }

  async #wait<T>(call: () => Promise<T>): Promise<T> {
    this.#step();
    if (this.isEnded) return never();
    try {
      const result = await call();
      if (!this.isEnded) this.#step();
      return this.isEnded ? never() : result;
    } catch (error) {
      if (this.isEnded) return never();
      throw error;
    }
  }
}
