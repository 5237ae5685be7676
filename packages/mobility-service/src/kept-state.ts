import { assert, must } from "@osr/base/assert";
import { KIB, MIB } from "@osr/base/units";
import type { ChangeTracker } from "@osr/block-device/change-tracker";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";
import { DISKS_PER_MACHINE_MAX } from "@osr/contracts/agent-protocol";

import { BitmapArena } from "./bitmap-arena.ts";
import { pageBytes } from "./dirty-memory.ts";
import { KeptDisk } from "./kept-disk.ts";
import { KeptFields, type KeptNumbers, type KeptText } from "./kept-fields.ts";
import type { KeptMemory } from "./kept-memory.ts";
import { KeptRuns, keptRunsWords } from "./kept-runs.ts";
import { REMAINDER_RUNS_MAX } from "./remainder.ts";
import type { ReplicationLimits } from "./replication-limits.ts";

/** "OSRK", as a little-endian word, and the version of the layout. */
const MAGIC = 0x4b52534f;
const VERSION = 2;
const MAGIC_WORD = 0;
const VERSION_WORD = 1;
const READY_WORD = 2;
const HEAD_WORDS = 4;
const LABEL_BYTES_MAX = KIB;

/** Numbers that a tracker may take to say how far it has read: a few for each CPU. */
const POSITION_NUMBERS_MAX = 2048;
/** A batch of nothing but single blocks of zeros has the most runs. */
const BATCH_RUNS_MAX = 17_000;
/** Place for everything but tables and bitmaps, and for tables: those of 100 TiB of disks. */
const FIELDS_BYTES = 4 * MIB;
const TABLES_BYTES = 2 * MIB;
/** For bitmaps of the coarsest level, which have no budget: 6 TiB of disks in five sets. */
const COARSE_BYTES = 4 * MIB;
const BITMAPS_AT = FIELDS_BYTES + TABLES_BYTES;

/**
 * What an agent knows, in memory that its successor finds: the dirty sets of every disk, what was taken out of them and is
 * not spooled yet, and how far the trace events were read. The law: a block is in the memory as dirty before it is
 * forgotten anywhere else. So the order is, each in one place:
 * - a drain: blocks into the live set, then the counts (`drained`). Where they are not those of the kernel, the successor
 *   knows that a drain was cut short;
 * - a run that is read: into the list of its batch, into its interval's set, then out of the live set
 *   (DiskDirtyState.take);
 * - an acknowledgement: the position of the stream, then the batch's list is emptied (DiskReplication);
 * - doubt: the stage of the disk, then anything else.
 */
export class KeptState {
  readonly bitmaps: BitmapArena;
  /** Of each batch. */
  readonly batchRuns: readonly KeptRuns[];
  /** Of what is read while the machine is frozen. */
  readonly remainderRuns: KeptRuns;
  readonly #memory: KeptMemory;
  readonly #head: Uint32Array;
  readonly #label: KeptText;
  /** How far the tracker has read, and the sectors of each disk that it has traced so far. */
  readonly #drained: KeptNumbers;
  readonly #disks: readonly KeptDisk[];
  readonly #tables: Uint32Array;
  readonly #fieldsEnd: number;
  /** Disks that this process has or had. */
  readonly #given = new Set<KeptDisk>();
  #tableWords = 0;

  private constructor(memory: KeptMemory, limits: ReplicationLimits) {
    this.#memory = memory;
    const fields = new KeptFields(memory.buffer, 0);
    this.#head = fields.words(HEAD_WORDS);
    this.#label = fields.text(LABEL_BYTES_MAX);
    this.#drained = fields.numbers(POSITION_NUMBERS_MAX + 2 * DISKS_PER_MACHINE_MAX);
    const runs = (runsMax: number): KeptRuns => new KeptRuns(fields.words(keptRunsWords(runsMax)));
    this.batchRuns = Array.from({ length: limits.batchesHeldMax }, () => runs(BATCH_RUNS_MAX));
    this.remainderRuns = runs(REMAINDER_RUNS_MAX);
    this.#disks = Array.from(
      { length: DISKS_PER_MACHINE_MAX },
      (_, slot) => new KeptDisk(slot, fields),
    );
    this.#fieldsEnd = fields.offset;
    assert(this.#fieldsEnd <= FIELDS_BYTES, "the fields have their place");
    this.#tables = new Uint32Array(memory.buffer, FIELDS_BYTES, TABLES_BYTES / 4);
    const place = { offset: BITMAPS_AT, bytes: memory.buffer.byteLength - BITMAPS_AT };
    this.bitmaps = new BitmapArena(memory, place, () => this.forget());
  }

  /** Bytes of memory for an agent with these limits; only what is written to is really taken. */
  static bytes({ dirtyMemoryBytesMax }: ReplicationLimits): number {
    const blocks = Math.ceil(dirtyMemoryBytesMax / pageBytes(0));
    return BITMAPS_AT + blocks * pageBytes(0) + COARSE_BYTES;
  }

  /** Begins anew. `label`: what must be the same for a successor, such as the boot. */
  static create(memory: KeptMemory, limits: ReplicationLimits, label: string): KeptState {
    const state = new KeptState(memory, limits);
    const isThere = memory.reserve(0, state.#fieldsEnd);
    state.#head[MAGIC_WORD] = MAGIC;
    state.#head[VERSION_WORD] = VERSION;
    state.#label.value = labelWith(label, limits);
    if (isThere) state.#head[READY_WORD] = 1;
    return state;
  }

  /** What an earlier process left; undefined where that is nothing, or not of this boot and version. */
  static find(memory: KeptMemory, limits: ReplicationLimits, label: string): KeptState | undefined {
    if (memory.buffer.byteLength !== KeptState.bytes(limits)) return undefined;
    const state = new KeptState(memory, limits);
    const [magic, version, ready] = state.#head;
    const isWhole = magic === MAGIC && version === VERSION && ready === 1;
    return isWhole && state.#label.value === labelWith(label, limits) ? state : undefined;
  }

  /** A successor must not use it: not all is in it, or nobody tracks any more. */
  forget(): void {
    this.#head[READY_WORD] = 0;
  }

  /** What an earlier process knew of a disk, if it is the same still. */
  diskOf(disk: ProtectableDisk): KeptDisk | undefined {
    const kept = this.#disks.find((candidate) => candidate.isOf(disk));
    if (kept === undefined) return undefined;
    this.#tableWords = Math.max(this.#tableWords, kept.tablesAt + KeptDisk.tableWords(disk));
    kept.useTables(disk, this.#tables);
    this.#given.add(kept);
    return kept;
  }

  /** Place for a disk of which nothing is known. */
  newDisk(disk: ProtectableDisk): KeptDisk {
    const kept = this.#freeDisk();
    const at = this.#tableWords;
    const words = KeptDisk.tableWords(disk);
    const isThere =
      at + words <= this.#tables.length && this.#memory.reserve(FIELDS_BYTES + at * 4, words * 4);
    if (isThere) {
      this.#tableWords += words;
      kept.begin(disk, at, this.#tables);
    } else {
      this.forget();
      kept.begin(disk, 0, new Uint32Array(words));
    }
    return kept;
  }

  /** One that this process has not used: who replicated a disk that has vanished may write to its place yet. */
  #freeDisk(): KeptDisk {
    const free = this.#disks.find((disk) => !disk.isUsed && !this.#given.has(disk));
    if (free === undefined) this.forget();
    const kept =
      free ??
      must(
        this.#disks.find(({ isUsed }) => !isUsed),
        "room for a disk",
      );
    this.#given.add(kept);
    return kept;
  }

  /** Forgets what was left of disks that nobody asked for. */
  forgetDisksBut(known: ReadonlySet<KeptDisk>): void {
    for (const disk of this.#disks) if (!known.has(disk)) disk.forget();
  }

  /** Everything that the tracker's drains so far brought is in the live sets. Allocates nothing. */
  drained(tracker: ChangeTracker, disks: readonly KeptDisk[]): void {
    const { next } = this.#drained;
    tracker.savePosition(next);
    for (let index = 0; index < disks.length; index++) {
      const at = POSITION_NUMBERS_MAX + 2 * must(disks[index], "disk").slot;
      const { written, discarded } = tracker.tracedSectors(index);
      next[at] = written;
      next[at + 1] = discarded;
    }
    this.#drained.commit();
  }

  /** Lets the tracker go on where an earlier process stopped. False where it cannot. */
  resume(tracker: ChangeTracker, disks: readonly (KeptDisk | undefined)[]): boolean {
    const { current } = this.#drained;
    const traced = disks.map((disk) => {
      const at = POSITION_NUMBERS_MAX + 2 * (disk?.slot ?? 0);
      return disk === undefined
        ? { written: 0, discarded: 0 }
        : { written: must(current[at], "sectors"), discarded: must(current[at + 1], "sectors") };
    });
    return tracker.resume(current.subarray(0, POSITION_NUMBERS_MAX), traced);
  }
}

/** Other limits have another layout. */
function labelWith(
  label: string,
  { batchesHeldMax, dirtyMemoryBytesMax }: ReplicationLimits,
): string {
  return JSON.stringify({ label, batchesHeldMax, dirtyMemoryBytesMax });
}
