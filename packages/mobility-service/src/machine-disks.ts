import { must } from "@osr/base/assert";
import type { Log } from "@osr/base/log";
import type { ChangeTracker, KernelCounters, TrackedDisk } from "@osr/block-device/change-tracker";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";
import type { HealthError, SessionDisk } from "@osr/contracts/agent-protocol";

import type { ChangeIntake } from "./change-intake.ts";
import { CopyRate } from "./copy-rate.ts";
import { DiskReplication, type DiskReplicationOptions } from "./disk-replication.ts";
import type { DiskChanges, DiskWatch, OpenedDisk } from "./disk-watch.ts";
import type { KeptDisk } from "./kept-disk.ts";
import type { KeptState } from "./kept-state.ts";
import { type MachineDisk, resyncOf, troubleOf } from "./machine-disk.ts";
import type { ResyncReason } from "./resync-reason.ts";
import type { TrackingTrust } from "./tracking-trust.ts";
import { Turn } from "./turn.ts";

export type MachineDisksParts = Omit<
  DiskReplicationOptions,
  "disk" | "reader" | "startReason" | "kept" | "isResumed"
> & {
  readonly state: KeptState;
  readonly tracker: ChangeTracker;
  readonly counters: KernelCounters;
  readonly changes: ChangeIntake;
  readonly trust: TrackingTrust;
};

/** What an earlier process left of a disk, and its place in the tracker, which has it already. */
type KnownDisk = { readonly index: number; readonly kept: KeptDisk; readonly isResumed: boolean };

type MachineDiskChanges = DiskChanges & { readonly leaving: readonly MachineDisk[] };

const SECTOR_BYTES = 512;

/** As a tracker takes it. */
export function trackedDisk(disk: ProtectableDisk, eventDevices: readonly number[]): TrackedDisk {
  const sectorCount = disk.sizeBytes / SECTOR_BYTES;
  return { eventDevices, sectorCount, ignoredRanges: disk.swapRanges };
}

/**
 * The disks of the machine, as they come and go. A disk that vanishes stays in the set, in trouble, until it is back: a
 * machine without one of its disks has no recovery points. One that comes back, or is not what it was, takes the place of the
 * one of the same identity, and is compared with its log. One that is left out from now on leaves the set, and the others go
 * on as they are.
 */
export class MachineDisks {
  readonly #parts: MachineDisksParts;
  #disks: readonly MachineDisk[] = [];
  #replaced: MachineDisk[] = [];
  #lookFailed = false;
  /** What outlives this process, by the tracker's disk indexes. */
  readonly kept: KeptDisk[] = [];

  constructor(parts: MachineDisksParts) {
    this.#parts = parts;
  }

  get all(): readonly MachineDisk[] {
    return this.#disks;
  }

  /** Those whose trouble is trouble of the machine's points. */
  get members(): readonly MachineDisk[] {
    return this.#disks.filter(({ isMember }) => isMember);
  }

  /** What keeps the machine from having points. */
  get trouble(): HealthError | undefined {
    return first(this.members, troubleOf);
  }

  /** Why the machine has no points for a while. */
  get resync(): HealthError | undefined {
    return first(this.members, resyncOf);
  }

  has(disk: MachineDisk): boolean {
    return this.#disks.includes(disk);
  }

  /** Closes those that others have replaced; no session has them any more. */
  async closeReplaced(): Promise<void> {
    for (const { reader, replication } of this.#replaced.splice(0)) {
      await reader[Symbol.asyncDispose]();
      replication.dispose();
    }
  }

  /** Closes all. */
  async close(): Promise<void> {
    await this.closeReplaced();
    for (const { reader } of this.#disks) await reader[Symbol.asyncDispose]();
  }

  /** What a disk watch should know of. */
  #known(leaving: readonly MachineDisk[]): readonly ProtectableDisk[] {
    return this.#disks.flatMap((disk) =>
      disk.isVanished || leaving.includes(disk) ? [] : [disk.replication.disk],
    );
  }

  /** Those that are to be left out by now. */
  #leaving(diskWatch: DiskWatch): readonly MachineDisk[] {
    return this.#disks.filter(({ replication }) => diskWatch.isLeftOut(replication.disk.identity));
  }

  /** As a session asks for them. */
  forSession(): readonly SessionDisk[] {
    return this.#disks.map(({ replication: { disk } }) => {
      const { identity, name, sizeBytes, isBoot } = disk;
      return { identity, name, sizeBytes, isBoot };
    });
  }

  /** Follows one more disk, from here on; `isMember` says that points wait for it from the start. */
  add(
    opened: OpenedDisk,
    options: {
      readonly isMember: boolean;
      readonly startReason: ResyncReason;
      readonly known?: KnownDisk;
    },
  ): void {
    const { tracker, counters, changes, trust, clock, state } = this.#parts;
    const { disk, reader, eventDevices, untrusted } = opened;
    const replaced = this.#disks.find((other) => other.replication.disk.identity === disk.identity);
    if (replaced !== undefined) {
      this.#forget(replaced);
      this.#replaced.push(replaced);
    }
    const { startReason, known } = options;
    const index = known?.index ?? tracker.add(trackedDisk(disk, eventDevices));
    const kept = known?.kept ?? state.newDisk(disk);
    const isResumed = known?.isResumed ?? false;
    const own = { disk, reader, startReason, kept, isResumed };
    const replication = new DiskReplication({ ...this.#parts, ...own });
    this.kept[index] = kept;
    changes.add(index, replication);
    trust.add(index, counters.counterOf(disk), kept);
    const added: MachineDisk = {
      index,
      replication,
      reader,
      turn: new Turn(),
      rate: new CopyRate(clock.monotonicMs()),
      untrusted,
      isMember: replaced?.isMember ?? options.isMember,
      isVanished: false,
    };
    this.#disks = [...this.#disks.filter((other) => other !== replaced), added];
  }

  /** What has changed among the machine's disks, or undefined where nothing has, or it cannot be told. */
  async look(ports: {
    readonly diskWatch: DiskWatch;
    readonly log: Log;
  }): Promise<MachineDiskChanges | undefined> {
    const { diskWatch, log } = ports;
    try {
      const leaving = this.#leaving(diskWatch);
      // A machine without any disk is not replicated: whoever wants that disables its protection.
      if (leaving.length === this.#disks.length) return undefined;
      const changes = { ...(await diskWatch.look(this.#known(leaving))), leaving };
      this.#lookFailed = false;
      for (const { name, identity } of changes.vanished)
        log.error("a disk has vanished", { name, identity });
      for (const { replication } of leaving)
        log.info("a disk is left out from now on", { name: replication.disk.name });
      const count = changes.appeared.length + changes.vanished.length + leaving.length;
      return count === 0 ? undefined : changes;
    } catch (error) {
      if (!this.#lookFailed) log.warn("cannot look for disks", { error });
      this.#lookFailed = true;
      return undefined;
    }
  }

  /** Takes what a disk watch found. Returns true where a new session is needed. */
  change(
    { appeared, vanished, leaving }: MachineDiskChanges,
    options: { readonly isMember: boolean },
  ): boolean {
    for (const { identity } of vanished) {
      const disk = this.#disks.find((each) => each.replication.disk.identity === identity);
      this.#forget(must(disk, "a known disk"));
    }
    for (const disk of leaving) {
      this.#forget(disk);
      this.#replaced.push(disk);
    }
    this.#disks = this.#disks.filter((disk) => !leaving.includes(disk));
    for (const opened of appeared) this.add(opened, { ...options, startReason: "DISK_CHANGED" });
    return appeared.length + leaving.length > 0;
  }

  /** Its device number may come to mean another disk, and what changed meanwhile is not known: a cut that is under way fails. */
  #forget(disk: MachineDisk): void {
    if (disk.isVanished) return;
    disk.isVanished = true;
    this.#parts.changes.remove(disk.index);
    this.#parts.tracker.remove(disk.index);
    disk.replication.distrust("DISK_CHANGED");
    must(this.kept[disk.index], "kept").forget();
  }
}

function first<T, R>(items: readonly T[], of: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = of(item);
    if (found !== undefined) return found;
  }
  return undefined;
}
