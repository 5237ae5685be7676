import type { Clock } from "@osr/base/clock";
import { SECOND_MS } from "@osr/base/units";
import type { ChangeTracker, DiskCounter, SectorCounts } from "@osr/block-device/change-tracker";

/** How often tracking is checked while it agrees. */
const CHECK_MS = SECOND_MS;
/**
 * A mismatch counts once it has lasted so long. The kernel traces a request just before it counts it, and a CPU that is
 * taken away in between makes the two differ for a moment.
 */
const MISMATCH_MS = SECOND_MS / 2;

export type TrackingTrustPorts = {
  readonly tracker: Pick<ChangeTracker, "settledSectors">;
  readonly clock: Clock;
};

/** What the kernel counted above what was traced: of the time before the tracker, so it never changes. Outlives the agent. */
export type Baseline = { baseline: SectorCounts | undefined };

type DiskTrust = {
  readonly index: number;
  readonly counted: DiskCounter;
  before?: SectorCounts | undefined;
  readonly kept: Baseline;
  differsSinceMs?: number | undefined;
};

/**
 * Checks the tracker: what it traced of each disk must grow as the kernel's own count does. Whoever drains looks before and
 * after the drain; where the kernel counted something in between, that look says nothing. Synchronous, and for the time
 * between freeze and thaw as well.
 */
export class TrackingTrust {
  readonly #ports: TrackingTrustPorts;
  readonly #disks = new Map<number, DiskTrust>();
  #dueMs = 0;

  constructor(ports: TrackingTrustPorts) {
    this.#ports = ports;
  }

  /** Checks one more disk of the tracker. */
  add(index: number, counted: DiskCounter, kept: Baseline = { baseline: undefined }): void {
    this.#disks.set(index, { index, counted, kept });
  }

  remove(index: number): void {
    this.#disks.delete(index);
  }

  /** True where the next drain is to be checked. */
  get isDue(): boolean {
    return this.#ports.clock.monotonicMs() >= this.#dueMs;
  }

  /** Events were lost: what was traced says nothing, the next look begins anew. */
  reset(): void {
    this.#dueMs = 0;
    for (const { kept } of this.#disks.values()) kept.baseline = undefined;
  }

  before(): void {
    for (const disk of this.#disks.values()) disk.before = disk.counted();
  }

  /**
   * Looks again. False where the two differ for any disk; `onMismatch` hears of the disks where they have for long, once.
   */
  after(onMismatch: (diskIndex: number) => void): boolean {
    const nowMs = this.#ports.clock.monotonicMs();
    let agrees = true;
    let isWhole = true;
    for (const disk of this.#disks.values()) {
      const verdict = this.#look(disk);
      if (verdict === "moving") isWhole = false;
      if (verdict === "agrees") delete disk.differsSinceMs;
      if (verdict !== "differs") continue;
      agrees = false;
      disk.differsSinceMs ??= nowMs;
      if (nowMs - disk.differsSinceMs < MISMATCH_MS) continue;
      delete disk.differsSinceMs;
      disk.kept.baseline = undefined;
      onMismatch(disk.index);
    }
    if (agrees && isWhole) this.#dueMs = nowMs + CHECK_MS;
    else this.#dueMs = 0;
    return agrees;
  }

  #look(disk: DiskTrust): "agrees" | "differs" | "moving" | "uncounted" {
    const { tracker } = this.#ports;
    const { index, before } = disk;
    const after = disk.counted();
    if (before === undefined || after === undefined) return "uncounted";
    if (!isEqual(before, after)) return "moving";
    const traced = tracker.settledSectors(index);
    if (traced === undefined) {
      disk.kept.baseline = undefined;
      return "uncounted";
    }
    const excess = {
      written: after.written - traced.written,
      discarded: after.discarded - traced.discarded,
    };
    const { baseline } = disk.kept;
    if (baseline === undefined) disk.kept.baseline = excess;
    return isEqual(baseline ?? excess, excess) ? "agrees" : "differs";
  }
}

function isEqual(one: SectorCounts, other: SectorCounts): boolean {
  return one.written === other.written && one.discarded === other.discarded;
}
