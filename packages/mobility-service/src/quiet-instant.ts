import type { Clock } from "@osr/base/clock";
import type { PreparedFreeze } from "@osr/block-device/freezer";

import type { ChangeIntake } from "./change-intake.ts";
import type { Remainder } from "./remainder.ts";

/** Longest time from the begin of the freeze to the proof. Whoever waits for the disk waits that long. */
export const FREEZE_MS_MAX = 500;
/** Time between the last two drains: what was under way to the disk at the first one shows by the second. */
const QUIET_MS = 2;

/** A disk whose last dirty blocks are read while the machine is frozen. */
export interface RemainderSource {
  readRemainder(remainder: Remainder, diskIndex: number): boolean;
}

export type QuietInstantPorts = {
  readonly prepared: PreparedFreeze;
  readonly changes: ChangeIntake;
  readonly disks: readonly RemainderSource[];
  readonly remainder: Remainder;
  /** See DiskWatch. */
  readonly isSwapCurrent: () => boolean;
  readonly clock: Clock;
  /** Blocks the thread: nothing else of this process may run while the machine is frozen. */
  readonly pause: (ms: number) => void;
  /**
   * "required", always: the quiet window is the proof of an instant. "unchecked" plants a fault for tests: it takes for an
   * instant whatever was read.
   */
  readonly quietWindow: "required" | "unchecked";
  /** Test hook, after the proof and before the thaw. */
  readonly beforeThaw?: (() => void) | undefined;
};

export type QuietInstant =
  | {
      readonly kind: "proven";
      readonly unixMs: number;
      /** From the begin of the freeze to the proof. */
      readonly frozenMs: number;
      /** What the test hook took. */
      readonly heldMs: number;
    }
  /** Changes came between the drains until the time was over. */
  | { readonly kind: "busy" }
  /** More was dirty than fits. What was read is in the remainder all the same. */
  | { readonly kind: "noRoom" }
  /** The tracker lost events. */
  | { readonly kind: "lost" }
  /** The kernel counted other writes than were traced. */
  | { readonly kind: "mismatch" }
  /** What was ignored as swap may be data. */
  | { readonly kind: "swapChanged" }
  /** Freezing, reading or thawing failed, or the guard thawed first. */
  | { readonly kind: "failed"; readonly error: unknown };

/**
 * The cut: freezes, reads what is still dirty, proves by a quiet window that all disks stood still, and thaws. One
 * synchronous function, so that nothing of this process is logged, spawned or written in between, and no way out of it
 * leaves a file system frozen.
 *
 * The proof: what was read before drain A is at least as new as A. If no request completed between A and the last drain,
 * all of it, whenever read, is the disks' content at the moment of the last drain.
 */
export function readQuietInstant(ports: QuietInstantPorts): QuietInstant {
  let instant: QuietInstant;
  try {
    instant = freezeAndProve(ports);
  } catch (error) {
    instant = { kind: "failed", error };
  }
  try {
    ports.prepared.thaw();
  } catch (error) {
    // Where the guard was first, the machine ran while we were reading.
    return { kind: "failed", error };
  }
  return instant;
}

function freezeAndProve(ports: QuietInstantPorts): QuietInstant {
  const { prepared, clock } = ports;
  const startMs = clock.monotonicMs();
  const deadlineMs = startMs + FREEZE_MS_MAX;
  prepared.freeze(deadlineMs);
  const kind = prove(ports, deadlineMs);
  if (kind !== "proven") return { kind };
  const provenMs = clock.monotonicMs();
  const unixMs = Math.floor(clock.unixMs());
  ports.beforeThaw?.();
  const heldMs = clock.monotonicMs() - provenMs;
  return { kind, unixMs, frozenMs: provenMs - startMs, heldMs };
}

function prove(
  ports: QuietInstantPorts,
  deadlineMs: number,
): "proven" | "busy" | "noRoom" | "lost" | "mismatch" | "swapChanged" {
  const { changes, disks, remainder, clock } = ports;
  let isMismatched = false;
  do {
    if (changes.drain() === "lost") return "lost"; // A
    for (const [index, disk] of disks.entries())
      if (!disk.readRemainder(remainder, index)) return "noRoom";
    const first = changes.drain();
    ports.pause(QUIET_MS);
    const second = changes.checkedDrain(); // B
    if (first === "lost" || second === "lost") return "lost";
    // After B: what drains ignored until then was swap.
    if (!ports.isSwapCurrent()) return "swapChanged";
    isMismatched = second === "mismatch";
    // It may be one for a moment only.
    if (second === "mismatch") continue;
    if (first + second === 0 || ports.quietWindow === "unchecked") return "proven";
  } while (clock.monotonicMs() < deadlineMs);
  return isMismatched ? "mismatch" : "busy";
}
