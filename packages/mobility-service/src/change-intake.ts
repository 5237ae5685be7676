import type { ChangeSink, ChangeTracker } from "@osr/block-device/change-tracker";

import type { ResyncReason } from "./resync-reason.ts";
import type { TrackingTrust } from "./tracking-trust.ts";

/** Where changes of a disk go: see ChangeSink. */
export interface ChangedDisk {
  changed(sector: number, sectorCount: number): void;
  changedBlocks(firstBlock: number, bits: number): void;
  /** Changes of the disk may be unknown from here back. */
  distrust(reason: ResyncReason): void;
}

/**
 * Takes changes from the tracker into the dirty sets. Where changes may be missing, it says so to the disks concerned, before
 * whoever drains goes on: silence must not be taken for stillness.
 */
export class ChangeIntake {
  readonly #tracker: Pick<ChangeTracker, "drain" | "mismatched">;
  /** By their disk index. */
  readonly #disks = new Map<number, ChangedDisk>();
  readonly #trust: TrackingTrust | undefined;
  readonly #onDrained: (() => void) | undefined;
  readonly #sink: ChangeSink;
  #failure: unknown;

  /** `onDrained`: all that was drained so far is in the live sets of the disks. */
  constructor(
    tracker: Pick<ChangeTracker, "drain" | "mismatched">,
    options: { readonly trust?: TrackingTrust; readonly onDrained?: () => void } = {},
  ) {
    this.#tracker = tracker;
    this.#trust = options.trust;
    this.#onDrained = options.onDrained;
    this.#sink = {
      changed: (index, sector, count) => this.#disks.get(index)?.changed(sector, count),
      changedBlocks: (index, first, bits) => this.#disks.get(index)?.changedBlocks(first, bits),
    };
  }

  /** What changes on the tracker's disk `index` goes to `disk`. */
  add(index: number, disk: ChangedDisk): void {
    this.#disks.set(index, disk);
  }

  /** The disk is gone: nothing of it is taken any more, and nothing is checked. */
  remove(index: number): void {
    this.#disks.delete(index);
    this.#trust?.remove(index);
  }

  /** Why the last drain that was lost could not read the events, where it could not. */
  get failure(): unknown {
    return this.#failure;
  }

  /** True where the next drain should be a checked one. */
  get isCheckDue(): boolean {
    return this.#trust?.isDue ?? false;
  }

  /** Number of changes since the last drain, or "lost". Synchronous; writes and starts nothing. */
  drain(): number | "lost" {
    try {
      const { changes, lost } = this.#tracker.drain(this.#sink);
      if (!lost) {
        this.#onDrained?.();
        return changes;
      }
      this.#failure = undefined;
    } catch (cause) {
      this.#failure = cause;
    }
    this.#trust?.reset();
    for (const disk of this.#disks.values()) disk.distrust("TRACKING_LOST");
    if (this.#failure === undefined) this.#onDrained?.();
    return "lost";
  }

  /** Drains, and compares what was traced with what the kernel counted. "mismatch" may yet turn out to be none. */
  checkedDrain(): number | "lost" | "mismatch" {
    if (this.#trust === undefined) return this.drain();
    this.#trust.before();
    const changes = this.drain();
    if (changes === "lost") return changes;
    const agrees = this.#trust.after((index) => {
      this.#disks.get(index)?.distrust("TRACKING_MISMATCH");
      this.#tracker.mismatched();
    });
    return agrees ? changes : "mismatch";
  }
}
