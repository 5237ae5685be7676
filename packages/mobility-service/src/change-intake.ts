import type { ChangeSink, ChangeTracker } from "@osr/block-device/change-tracker";

/** Where changes of a disk go. */
export interface ChangedDisk {
  changed(sector: number, sectorCount: number): void;
}

/**
 * Takes changes from the tracker into the dirty sets. Once events were lost, it says so for ever: whoever drains next must
 * not take silence for stillness.
 */
export class ChangeIntake {
  readonly #tracker: ChangeTracker;
  readonly #sink: ChangeSink;
  #lost: { readonly cause?: unknown } | undefined;

  /** `disks` in the order of the tracker's disk indexes. */
  constructor(tracker: ChangeTracker, disks: readonly ChangedDisk[]) {
    this.#tracker = tracker;
    this.#sink = {
      changed: (index, sector, count) => disks[index]?.changed(sector, count),
    };
  }

  /** Present once changes may be unknown; its cause is an error where reading the events failed. */
  get lost(): { readonly cause?: unknown } | undefined {
    return this.#lost;
  }

  /** Number of changes since the last drain, or "lost". Synchronous; writes and starts nothing. */
  drain(): number | "lost" {
    if (this.#lost !== undefined) return "lost";
    try {
      const { changes, lost } = this.#tracker.drain(this.#sink);
      if (!lost) return changes;
      this.#lost = {};
    } catch (cause) {
      this.#lost = { cause };
    }
    return "lost";
  }
}
