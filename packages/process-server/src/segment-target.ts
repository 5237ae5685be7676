import { MIB, SECOND_MS } from "@osr/base/units";

/** Size at which a segment is closed while no uplink was measured yet. */
export const SEGMENT_BYTES_DEFAULT = 64 * MIB;
export const SEGMENT_BYTES_MIN = 8 * MIB;
export const SEGMENT_BYTES_MAX = 192 * MIB;
/** One segment takes the uplink at most about this long. */
export const SEGMENT_UPLOAD_MS = 30 * SECOND_MS;

/** Weight of the newest upload in the moving average. */
const NEWEST_SHARE = 0.3;
/** Smaller uploads say more about round trips than about the uplink. */
const MEASURED_BYTES_MIN = MIB;

/** How large segments shall be, from how fast they went up. One for all disks: they share the uplink. */
export class SegmentTarget {
  #bytesPerMs: number | undefined;

  /** Notes an upload. */
  measured(bytes: number, ms: number): void {
    if (bytes < MEASURED_BYTES_MIN) return;
    const rate = bytes / Math.max(ms, 1);
    this.#bytesPerMs =
      this.#bytesPerMs === undefined
        ? rate
        : this.#bytesPerMs * (1 - NEWEST_SHARE) + rate * NEWEST_SHARE;
  }

  get bytes(): number {
    if (this.#bytesPerMs === undefined) return SEGMENT_BYTES_DEFAULT;
    const fitting = this.#bytesPerMs * SEGMENT_UPLOAD_MS;
    return Math.floor(Math.min(SEGMENT_BYTES_MAX, Math.max(SEGMENT_BYTES_MIN, fitting)));
  }

  /** Bytes a second, undefined before the first measurement. */
  get bytesPerSecond(): number | undefined {
    return this.#bytesPerMs === undefined ? undefined : this.#bytesPerMs * SECOND_MS;
  }
}
