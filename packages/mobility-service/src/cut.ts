import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import { MIB, MINUTE_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { Freezer, PreparedFreeze } from "@osr/block-device/freezer";
import type { Tag, TagClass } from "@osr/contracts/tag";

import { allDone } from "./all-done.ts";
import type { ChangeIntake } from "./change-intake.ts";
import type { DiskReplication } from "./disk-replication.ts";
import type { KeptRuns } from "./kept-runs.ts";
import type { MobilityStatus } from "./mobility-status.ts";
import { type QuietInstant, readQuietInstant } from "./quiet-instant.ts";
import { REMAINDER_BYTES_MAX, Remainder } from "./remainder.ts";
import type { ResyncReason } from "./resync-reason.ts";

/** A sync that takes longer says that a freeze would, too. */
export const SYNC_MS_MAX = 50;
/** Rounds of copying before a freeze, and the time for them; then the point is missed. */
const ROUNDS_MAX = 40;
const ROUNDS_MS_MAX = 2 * MINUTE_MS;
/** What may be dirty at the freeze: little at first, so that it is short, later whatever surely fits. */
const REMAINDER_BYTES_GOAL = MIB;
const PATIENT_ROUNDS = 10;

/** Scripts around the cut that make an application's files consistent. Each ends within its time limit or rejects. */
export type PointScripts = {
  readonly pre: (signal: AbortSignal) => Promise<void>;
  /** Runs whenever `pre` was started, also where the session is lost: the application waits for it. */
  readonly post: () => Promise<void>;
};

export type CutPorts = {
  readonly changes: ChangeIntake;
  readonly freezer: Freezer;
  readonly isSwapCurrent: () => boolean;
  readonly clock: Clock;
  readonly pause: (ms: number) => void;
  readonly quietWindow: "required" | "unchecked";
  readonly beforeThaw?: ((cutId: Uuid) => void) | undefined;
  readonly scripts?: PointScripts | undefined;
  /** Whether the scripts are to run around this cut. */
  readonly isAppDue: () => boolean;
  /** Holds back whatever else this process writes to files, until the result is disposed. */
  readonly holdWrites: () => Promise<Disposable>;
  /** Where the runs that are read while the machine is frozen are noted. */
  readonly remainderRuns: KeptRuns;
};

/** Why a recovery point was not made. */
export type MissedReason =
  | "SESSION_LOST"
  | "NOT_CONVERGING"
  | "NOT_QUIET"
  | ResyncReason
  | "DISK_UNREADABLE"
  | "SWAP_CHANGED"
  | "FREEZE_OVERSHOT"
  | "FREEZE_FAILED";

export type CutOutcome =
  | {
      readonly kind: "made";
      readonly tag: Tag;
      readonly frozenMs: number;
      readonly heldMs: number;
      readonly rounds: number;
      /** Why it is crash- and not app-consistent although there are scripts. */
      readonly scriptError?: unknown;
    }
  | { readonly kind: "missed"; readonly reason: MissedReason; readonly error?: unknown };

/** What the status says of a point that was made. */
export function cutStatusOf(
  cut: CutOutcome & { readonly kind: "made" },
): NonNullable<MobilityStatus["lastCut"]> {
  const { tag, frozenMs, heldMs, rounds } = cut;
  const { cutId, slot, unixMs } = tag;
  return { cutId, slot, class: tag.class, unixMs, frozenMs, heldMs, rounds };
}

/** What the tag of the point is to say. */
export type PointNames = { readonly groupId: Uuid; readonly slot: number; readonly cutId: Uuid };

/**
 * Makes one recovery point of all disks of the machine; whoever calls it has the turn on all of them.
 *
 * Order: rounds of copying while the machine runs, each spooled before a sync, until little is dirty and a sync is short;
 * freeze, read, prove, thaw (quiet-instant.ts); what was read is sent, then the tag, on every disk. Nothing is read between
 * the thaw and the tag. Rejects where the session is lost meanwhile, or a log is fenced.
 */
export class Cut {
  readonly #ports: CutPorts;
  readonly #remainder: Remainder;

  constructor(ports: CutPorts) {
    this.#ports = ports;
    this.#remainder = new Remainder(ports.remainderRuns);
  }

  async make(
    disks: readonly DiskReplication[],
    names: PointNames,
    signal: AbortSignal,
  ): Promise<CutOutcome> {
    const deadlineMs = this.#ports.clock.monotonicMs() + ROUNDS_MS_MAX;
    const attempt: Attempt = { disks, names, signal, deadlineMs, rounds: 0 };
    try {
      return await this.#attempt(attempt);
    } finally {
      // What was read and not sent is dirty again.
      for (const disk of disks) disk.returnRuns(this.#remainder.unsent);
      this.#remainder.clear();
    }
  }

  async #attempt(attempt: Attempt): Promise<CutOutcome> {
    for (;;) {
      this.#remainder.clear();
      const instant = await this.#instant(attempt);
      if (instant.kind === "proven") return await this.#tag(attempt, instant);
      // What was read is true of its blocks, if not of one instant: it goes on like any other data.
      await this.#sendRemainder(attempt.disks);
      if (instant.kind === "busy") await this.#tagFuzzy(attempt);
      if (instant.kind !== "noRoom") return missed(instant);
    }
  }

  /** From the rounds to the thaw. */
  async #instant(attempt: Attempt): Promise<QuietInstant | NotReady> {
    const scripts = this.#ports.isAppDue() ? this.#ports.scripts : undefined;
    // Nothing of the attempt before counts: its scripts have ended.
    delete attempt.class;
    const preparation = await this.#prepare(attempt.disks);
    if (preparation.kind === "failed") return preparation;
    await using prepared = preparation.prepared;
    let notReady = await this.#converge(attempt, prepared);
    if (notReady !== undefined || scripts === undefined)
      return notReady ?? (await this.#freeze(attempt, prepared));
    try {
      await this.#runPre(attempt, scripts);
      notReady = await this.#converge(attempt, prepared);
      return notReady ?? (await this.#freeze(attempt, prepared));
    } finally {
      await scripts.post().catch((error: unknown) => (attempt.scriptError ??= error));
    }
  }

  async #prepare(
    disks: readonly DiskReplication[],
  ): Promise<{ readonly kind: "prepared"; readonly prepared: PreparedFreeze } | Failed> {
    try {
      const prepared = await this.#ports.freezer.prepare(disks.map(({ disk }) => disk));
      return { kind: "prepared", prepared };
    } catch (error) {
      return { kind: "failed", error };
    }
  }

  async #runPre(attempt: Attempt, scripts: PointScripts): Promise<void> {
    try {
      await scripts.pre(attempt.signal);
      attempt.class = "app";
    } catch (error) {
      attempt.scriptError = error;
    }
  }

  /** Copies and syncs until a freeze will be short. */
  async #converge(attempt: Attempt, prepared: PreparedFreeze): Promise<NotReady | undefined> {
    const { clock, changes } = this.#ports;
    const { disks } = attempt;
    while (attempt.rounds < ROUNDS_MAX && clock.monotonicMs() < attempt.deadlineMs) {
      attempt.rounds += 1;
      if (changes.drain() === "lost") return { kind: "lost" };
      const resync = resyncOf(disks);
      if (resync !== undefined) return resync;
      await allDone(disks.map((disk) => disk.copyRound()));
      const unreadable = disks.find((disk) => disk.unreadable !== undefined)?.unreadable;
      if (unreadable !== undefined) return { kind: "failed", error: unreadable };
      const syncMs = await this.#sync(attempt, prepared);
      if (typeof syncMs !== "number") return syncMs;
      if (changes.drain() === "lost") return { kind: "lost" };
      let dirtyBytes = 0;
      for (const disk of disks) dirtyBytes += disk.dirtyBytes;
      const dirtyBytesMax =
        attempt.rounds <= PATIENT_ROUNDS ? REMAINDER_BYTES_GOAL : REMAINDER_BYTES_MAX / 2;
      if (syncMs <= SYNC_MS_MAX && dirtyBytes <= dirtyBytesMax) return undefined;
    }
    return { kind: "notConverging" };
  }

  async #sync(attempt: Attempt, prepared: PreparedFreeze): Promise<number | Failed> {
    try {
      return await prepared.sync(attempt.signal);
    } catch (error) {
      attempt.signal.throwIfAborted();
      return { kind: "failed", error };
    }
  }

  async #freeze(attempt: Attempt, prepared: PreparedFreeze): Promise<QuietInstant | Resync> {
    const { beforeThaw } = this.#ports;
    const { disks, names, signal } = attempt;
    using _ = await this.#ports.holdWrites();
    signal.throwIfAborted();
    const resync = resyncOf(disks);
    if (resync !== undefined) return resync;
    for (const disk of disks) disk.openInterval();
    return readQuietInstant({
      ...this.#ports,
      prepared,
      disks,
      remainder: this.#remainder,
      beforeThaw: beforeThaw === undefined ? undefined : () => beforeThaw(names.cutId),
    });
  }

  async #tag(attempt: Attempt, instant: QuietInstant & { kind: "proven" }): Promise<CutOutcome> {
    const { disks } = attempt;
    const tag = tagOf(attempt, attempt.class ?? "crash", instant.unixMs);
    await this.#sendRemainder(disks);
    const resync = resyncOf(disks);
    if (resync !== undefined) return missed(resync);
    await allDone(disks.map((disk) => disk.endInterval(tag)));
    const { frozenMs, heldMs } = instant;
    const { rounds, scriptError } = attempt;
    return {
      kind: "made",
      tag,
      frozenMs,
      heldMs,
      rounds,
      ...(scriptError === undefined ? {} : { scriptError }),
    };
  }

  /** Something writes past the file systems: what was copied is no instant, and its tag says so. It is never offered. */
  async #tagFuzzy(attempt: Attempt): Promise<void> {
    const { disks } = attempt;
    if (resyncOf(disks) !== undefined) return;
    const tag = tagOf(attempt, "fuzzy", Math.floor(this.#ports.clock.unixMs()));
    await allDone(disks.map((disk) => disk.endInterval(tag)));
  }

  async #sendRemainder(disks: readonly DiskReplication[]): Promise<void> {
    await allDone(disks.map((disk, index) => disk.sendRemainder(this.#remainder, index)));
    this.#remainder.unsent.clear();
  }
}

type Attempt = {
  readonly disks: readonly DiskReplication[];
  readonly names: PointNames;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  rounds: number;
  class?: "app";
  scriptError?: unknown;
};

function tagOf({ disks, names }: Attempt, tagClass: TagClass, unixMs: number): Tag {
  const members = disks.toSorted((one, other) => (one.diskId < other.diskId ? -1 : 1));
  return {
    ...names,
    class: tagClass,
    unixMs,
    disks: members.map(({ diskId }) => diskId),
    diskBytes: members.map(({ disk }) => disk.sizeBytes),
  };
}

type NotReady = { readonly kind: "notConverging" } | { readonly kind: "lost" } | Resync | Failed;

/** Changes of a disk may be unknown: nothing of it can be proven before it was compared. */
type Resync = { readonly kind: "resync"; readonly reason: ResyncReason };

function resyncOf(disks: readonly DiskReplication[]): Resync | undefined {
  for (const { resync } of disks)
    if (resync !== undefined) return { kind: "resync", reason: resync.reason };
  return undefined;
}

type Failed = { readonly kind: "failed"; readonly error: unknown };

function missed(instant: Exclude<QuietInstant | NotReady, { kind: "proven" }>): CutOutcome {
  switch (instant.kind) {
    case "busy":
      return { kind: "missed", reason: "NOT_QUIET" };
    case "lost":
      return { kind: "missed", reason: "TRACKING_LOST" };
    case "mismatch":
      return { kind: "missed", reason: "TRACKING_MISMATCH" };
    case "swapChanged":
      return { kind: "missed", reason: "SWAP_CHANGED" };
    case "resync":
      return { kind: "missed", reason: instant.reason };
    case "notConverging":
    case "noRoom":
      return { kind: "missed", reason: "NOT_CONVERGING" };
    case "failed": {
      const { error } = instant;
      const code = error instanceof OsrError ? error.code : "";
      const isOwnReason = code === "DISK_UNREADABLE" || code === "FREEZE_OVERSHOT";
      return { kind: "missed", reason: isOwnReason ? code : "FREEZE_FAILED", error };
    }
  }
}
