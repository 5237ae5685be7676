import { bitsWithin } from "@osr/base/bits";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { type Uuid } from "@osr/base/uuid";
import type {
  ChangeSink,
  ChangeTracker,
  DiskCounter,
  DrainResult,
  KernelCounters,
  SectorCounts,
  SectorRange,
  TrackedDisk,
} from "@osr/block-device/change-tracker";
import { BLOCK_DEVICE_ERRORS } from "@osr/block-device/block-device-errors";
import type { Freezer, PreparedFreeze } from "@osr/block-device/freezer";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";

import type { DiskChanges, DiskWatch, OpenedDisk } from "../disk-watch.ts";
import { maskSwap } from "../swap-mask.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { VirtualTime } from "./virtual-time.ts";

const SECTOR_BYTES = 512;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** How hard the machine makes it; chances are per opportunity to write. */
export type MachineFaults = {
  /** Writers that stop while file systems are frozen. */
  readonly writeChance: number;
  /** Writers past the file systems, which no freeze stops. */
  readonly wildWriteChance: number;
  readonly slowSyncChance: number;
  readonly freezeFaultChance: number;
  readonly unreadableChance: number;
};

const CALM: MachineFaults = {
  writeChance: 0,
  wildWriteChance: 0,
  slowSyncChance: 0,
  freezeFaultChance: 0,
  unreadableChance: 0,
};

export type SimulatedDisk = OpenedDisk & {
  /** Whole blocks; what lies beyond the disk's end stays zero. */
  readonly content: Buffer;
};

type Write = { readonly disk: number; readonly sector: number; readonly count: number };

/**
 * A machine with disks in memory, writers that write at the worst moments, a tracker that obeys the law of ChangeTracker,
 * and a freezer that obeys that of Freezer. Requests take time: their first half is on the disk before they complete, and
 * their event comes when they complete.
 */
export class SimulatedMachine implements ChangeTracker, KernelCounters, Freezer, DiskWatch {
  readonly drainEveryMs = 50;
  faults: MachineFaults;
  disks: readonly SimulatedDisk[];
  /** What every disk held at the moment that each cut proved. */
  readonly snapshots = new Map<Uuid, readonly Buffer[]>();
  frozen = false;
  /** Freezes and thaws that were called. */
  readonly calls = { freeze: 0, thaw: 0, released: 0, prepared: 0 };
  loseEvents = false;
  /** Events of so many requests never come, and nobody says so. */
  missEvents = 0;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  #isTracking = false;
  #guardThawed = false;
  #stamp = 1;
  #events: Write[] = [];
  /** Events that were read since tracking began. */
  #readEvents = 0;
  /** Disks that are tracked, by disk index; undefined where one was removed. */
  #tracked: (TrackedDisk | undefined)[] = [];
  readonly #traced: number[] = [];
  readonly #vanished = new Set<SimulatedDisk>();
  isSwapStale = false;
  readonly #counted: number[] = [];
  #atLastDrain: readonly Buffer[] = [];
  readonly #underWay = new Set<() => void>();

  constructor(
    time: VirtualTime,
    random: SeededRandom,
    options: {
      readonly faults: MachineFaults;
      readonly sectors: readonly number[];
      readonly swap: boolean;
    },
  ) {
    this.#time = time;
    this.#random = random;
    this.faults = options.faults;
    this.disks = options.sectors.map((count, index) => this.#disk(index, count, options.swap));
    // Most of a disk is empty when it is first protected.
    for (let write = 0; write < 40; write++) this.#write(true);
  }

  /** No faults and no writers from here on. */
  calm(): void {
    this.faults = CALM;
  }

  /** A chance for writers: called wherever time could pass. */
  opportunity(): void {
    if (!this.frozen && this.#random.chance(this.faults.writeChance)) this.#write(false);
    if (this.#random.chance(this.faults.wildWriteChance)) this.#write(true);
  }

  /** Of a wild write after the last drain nobody can know: what counts is what the disks held at that drain. */
  readonly beforeThaw = (cutId: Uuid): void => {
    this.snapshots.set(cutId, this.#atLastDrain);
  };

  /** Takes longer than it says, as on a busy machine. */
  readonly pause = (ms: number): void => {
    this.#time.pass(ms * 10);
    if (this.frozen && this.#random.chance(this.faults.freezeFaultChance / 4)) {
      this.frozen = false;
      this.#guardThawed = true;
    }
    this.opportunity();
  };

  start(): void {
    this.#events = [];
    this.#traced.length = 0;
    this.#readEvents = 0;
    this.#isTracking = true;
  }

  resume(position: Float64Array, traced: readonly SectorCounts[]): boolean {
    if (!this.#isTracking || position[0] !== this.#readEvents) return false;
    for (const [index, { written }] of traced.entries()) this.#traced[index] = written;
    return true;
  }

  savePosition(target: Float64Array): void {
    target[0] = this.#readEvents;
  }

  /** The agent is dead: its guard thaws, and the kernel goes on recording. */
  agentDied(): void {
    this.frozen = false;
    this.#guardThawed = false;
    this.#tracked = [];
  }

  add(disk: TrackedDisk): number {
    return this.#tracked.push(disk) - 1;
  }

  remove(diskIndex: number): void {
    this.#tracked[diskIndex] = undefined;
  }

  setIgnoredRanges(diskIndex: number, ignoredRanges: readonly SectorRange[]): void {
    const disk = this.#tracked[diskIndex];
    if (disk !== undefined) this.#tracked[diskIndex] = { ...disk, ignoredRanges };
  }

  /** Identities that are left out. */
  readonly leftOut = new Set<string>();

  isLeftOut(identity: string): boolean {
    return this.leftOut.has(identity);
  }

  look(known: readonly ProtectableDisk[]): Promise<DiskChanges> {
    const present = this.disks.filter(
      (disk) => !this.#vanished.has(disk) && !this.isLeftOut(disk.disk.identity),
    );
    this.isSwapStale = false;
    return Promise.resolve({
      appeared: present.filter(({ disk }) => !known.includes(disk)),
      vanished: known.filter(({ identity }) =>
        present.every(({ disk }) => disk.identity !== identity),
      ),
    });
  }

  isSwapCurrent(): boolean {
    return !this.isSwapStale;
  }

  drain(sink: ChangeSink): DrainResult {
    this.opportunity();
    this.#time.pass(0.05);
    const events = this.#events;
    this.#events = [];
    this.#readEvents += events.length;
    if (this.frozen) this.#atLastDrain = this.#copies();
    if (this.loseEvents) {
      this.loseEvents = false;
      return { changes: 0, lost: true };
    }
    let changes = 0;
    for (const { disk, sector, count } of events) {
      const index = this.#tracked.findIndex((each) => each?.eventDevices.includes(disk));
      if (index < 0) continue;
      this.#traced[index] = (this.#traced[index] ?? 0) + count;
      if (this.#isSwap(index, sector, count)) continue;
      changes += 1;
      tell(sink, index, sector, count);
    }
    this.opportunity();
    return { changes, lost: false };
  }

  tracedSectors(disk: number): SectorCounts {
    return { written: this.#traced[disk] ?? 0, discarded: 0 };
  }

  settledSectors(disk: number): SectorCounts {
    return this.tracedSectors(disk);
  }

  mismatched(): void {}

  counterOf({ name }: { readonly name: string }): DiskCounter {
    const disk = this.disks.findIndex((each) => each.disk.name === name);
    return () => ({ written: this.#counted[disk] ?? 0, discarded: 0 });
  }

  /** The disk becomes larger. */
  grow(disk: number, sectors: number): void {
    const grown = this.#disk(disk, sectors, false);
    this.disks[disk]?.content.copy(grown.content);
    this.disks = this.disks.with(disk, grown);
  }

  /** Somebody attaches one more disk, all zeros. */
  attach(sectors: number): void {
    this.disks = [...this.disks, this.#disk(this.disks.length, sectors, false)];
  }

  /** The disk goes away; nothing can be read of it. */
  detach(disk: number): void {
    const gone = this.disks[disk];
    if (gone !== undefined) this.#vanished.add(gone);
  }

  /** It comes back; what was written meanwhile nobody saw. */
  reattach(disk: number): void {
    const sectors = (this.disks[disk]?.disk.sizeBytes ?? 0) / SECTOR_BYTES;
    this.grow(disk, sectors);
  }

  /** Changes `blocks` blocks of a disk, spread evenly, as writers do. */
  writeBlocks(disk: number, blocks: number): void {
    const blockSectors = BLOCK_BYTES / SECTOR_BYTES;
    const total = Math.floor((this.disks[disk]?.disk.sizeBytes ?? 0) / BLOCK_BYTES);
    for (let index = 0; index < blocks; index++) {
      this.#stamp += 1;
      const sector = Math.floor((index * total) / blocks) * blockSectors;
      this.#apply(disk, sector, blockSectors, this.#stamp);
      this.#completed({ disk, sector, count: blockSectors });
    }
  }

  [Symbol.dispose](): void {
    this.#isTracking = false;
    this.#tracked = [];
  }

  async prepare(): Promise<PreparedFreeze> {
    await this.#time.sleep(this.#random.below(5));
    if (this.#random.chance(this.faults.freezeFaultChance / 4))
      throw new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_UNAVAILABLE, "no shell");
    this.calls.prepared += 1;
    let released = false;
    const release = async (): Promise<void> => {
      if (released) return;
      released = true;
      this.calls.released += 1;
      this.frozen = false;
      await this.#time.sleep(1);
    };
    return {
      fileSystems: [],
      sync: (signal) => this.#sync(signal),
      freeze: (deadlineMs) => this.#freeze(deadlineMs),
      thaw: () => this.#thaw(),
      release,
      [Symbol.asyncDispose]: release,
    };
  }

  #copies(): Buffer[] {
    return this.disks.map(({ content, disk }) => {
      const copy = Buffer.from(content);
      maskSwap(disk.swapRanges, 0, copy.length / BLOCK_BYTES, copy, 0);
      return copy;
    });
  }

  async #sync(signal: AbortSignal): Promise<number> {
    if (this.#random.chance(this.faults.freezeFaultChance / 8))
      throw new OsrError(BLOCK_DEVICE_ERRORS.SYNC_FAILED, "sync");
    const tookMs = this.#random.chance(this.faults.slowSyncChance) ? 200 : this.#random.below(20);
    await this.#time.sleep(tookMs, signal);
    this.opportunity();
    return tookMs;
  }

  #freeze(deadlineMs: number): { frozen: []; synced: [] } {
    this.opportunity();
    this.calls.freeze += 1;
    // A freeze waits until everything that file systems have under way is on the disk.
    for (const complete of this.#underWay) complete();
    this.frozen = true;
    this.#guardThawed = false;
    this.#time.pass(this.#random.below(10));
    if (this.#random.chance(this.faults.freezeFaultChance)) this.#time.pass(1000);
    if (this.#time.monotonicMs() <= deadlineMs) return { frozen: [], synced: [] };
    this.frozen = false;
    throw new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_OVERSHOT, "too late");
  }

  #thaw(): void {
    this.calls.thaw += 1;
    this.opportunity();
    this.frozen = false;
    const guardThawed = this.#guardThawed;
    this.#guardThawed = false;
    for (let times = 0; times < 3; times++) this.opportunity();
    if (guardThawed)
      throw new OsrError(BLOCK_DEVICE_ERRORS.FREEZE_GUARD_THAWED, "the guard thawed");
  }

  /** A wild write is on the disk and complete at once; another one completes some time later. */
  #write(wild: boolean): void {
    const disk = this.#random.below(this.disks.length);
    const sectors = (this.disks[disk]?.disk.sizeBytes ?? 0) / SECTOR_BYTES;
    const sector = this.#random.below(sectors);
    const lengthMax = this.#random.chance(0.1) ? 400 : 12;
    const count = Math.min(1 + this.#random.below(lengthMax), sectors - sector);
    this.#stamp += 1;
    // Zeros are written, too.
    const stamp = this.#random.chance(0.2) ? 0 : this.#stamp;
    const half = Math.floor(count / 2);
    this.#apply(disk, sector, half, stamp);
    const complete = (): void => {
      if (!wild && !this.#underWay.delete(complete)) return;
      this.#apply(disk, sector + half, count - half, stamp);
      this.#completed({ disk, sector, count });
    };
    if (wild) return complete();
    this.#underWay.add(complete);
    this.#time.after(this.#random.below(8), complete);
  }

  #completed(write: Write): void {
    this.#counted[write.disk] = (this.#counted[write.disk] ?? 0) + write.count;
    if (this.missEvents > 0) this.missEvents -= 1;
    else if (this.#isTracking) this.#events.push(write);
  }

  #apply(disk: number, sector: number, count: number, stamp: number): void {
    const content = this.disks[disk]?.content;
    for (let index = 0; index < count; index++)
      content?.writeUInt32LE(stamp, (sector + index) * SECTOR_BYTES);
  }

  #isSwap(index: number, sector: number, count: number): boolean {
    return (this.#tracked[index]?.ignoredRanges ?? []).some(
      (range) => sector >= range.sector && sector + count <= range.sector + range.count,
    );
  }

  #disk(index: number, sectors: number, swap: boolean): SimulatedDisk {
    const sizeBytes = sectors * SECTOR_BYTES;
    const content = Buffer.alloc(Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES);
    const disk: ProtectableDisk = {
      identity: `serial:disk${index}`,
      name: `vd${"abcdef"[index]}`,
      path: `/dev/vd${"abcdef"[index]}`,
      major: 254,
      minor: index * 16,
      sequence: index,
      sizeBytes,
      logicalSectorBytes: SECTOR_BYTES,
      isBoot: index === 0,
      swapRanges: swap && index === 0 ? [{ sector: 80, count: 400 }] : [],
    };
    const readSync = (offset: number, target: Buffer): void => {
      this.#time.pass(0.02);
      const isGone = [...this.#vanished].some((gone) => gone.disk === disk);
      if (isGone || this.#random.chance(this.faults.unreadableChance))
        throw new OsrError(BLOCK_DEVICE_ERRORS.DISK_UNREADABLE, `cannot read at ${offset}`);
      const current = this.disks[index]?.content ?? content;
      const half = Math.floor(target.length / BLOCK_BYTES / 2) * BLOCK_BYTES;
      current.copy(target, 0, offset, offset + half);
      this.opportunity();
      current.copy(target, half, offset + half, offset + target.length);
    };
    const read = async (offset: number, target: Buffer): Promise<void> => {
      this.opportunity();
      await this.#time.sleep(this.#random.below(3));
      readSync(offset, target);
      await this.#time.sleep(this.#random.below(3));
      this.opportunity();
    };
    const reader = { sizeBytes, read, readSync, [Symbol.asyncDispose]: () => Promise.resolve() };
    return { disk, content, reader, eventDevices: [index] };
  }
}

/** In blocks, as the kernel's programs tell it, where that takes one call; in sectors, as events do, where it does not. */
function tell(sink: ChangeSink, index: number, sector: number, count: number): void {
  const first = Math.floor(sector / BLOCK_SECTORS);
  const end = Math.ceil((sector + count) / BLOCK_SECTORS);
  const word = first - (first % 32);
  if (end > word + 32) sink.changed(index, sector, count);
  else sink.changedBlocks(index, word, bitsWithin(first - word, end - word));
}
