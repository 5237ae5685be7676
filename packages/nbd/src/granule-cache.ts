import { assert, must } from "@osr/base/assert";
import { KIB, MIB } from "@osr/base/units";

/**
 * Unit of caching. 64 KiB is what one frame of a segment holds at most, so that a small read decodes no more than the
 * frames that it needs.
 */
export const GRANULE_BYTES = 64 * KIB;
/** Unit of eviction. Large enough that a long read finds room in one piece and needs no copy. */
const CHUNK_BYTES = 2 * MIB;
const GRANULES_PER_CHUNK = CHUNK_BYTES / GRANULE_BYTES;
/** The smallest cache: some chunks are being filled while others are read. */
export const CACHE_BYTES_MIN = 8 * CHUNK_BYTES;
/**
 * With it a process that serves disks stays under 300 MiB also on a busy machine, where the collector comes late: 50 MiB are
 * Node's own, 10 MiB replies, up to 70 MiB the JavaScript heap while it is busy, and up to 35 MiB more what a fast reader in
 * order has under way (measured with all of a disk that is larger than the cache, read in order; 282 to 296 MiB with 128).
 */
const CACHE_BYTES_DEFAULT = 112 * MIB;

/** Where the granules of one source are: granule number to slot. The cache takes out what it evicts. */
export type GranuleSlots = Map<number, number>;

type Chunk = {
  /** Allocated when the chunk is first needed, and kept. */
  memory: Buffer | undefined;
  /** Slots handed out since the chunk was last emptied. */
  filled: number;
  /** Loads that are writing to it. */
  pins: number;
  /** A failed load may still write to its memory: once empty, the chunk gets other memory. */
  spoiled: boolean;
  lastUsed: number;
  readonly owners: (GranuleSlots | undefined)[];
  readonly granules: Float64Array;
};

/** Adjacent slots that a load may fill. */
export type Reservation = { readonly slot: number; readonly count: number };

/**
 * Memory for granules of any number of sources, with a fixed bound. It is filled like a log, chunk by chunk, and the
 * chunk that was unused for longest is emptied as a whole: there is no bookkeeping for each granule, and nothing is
 * allocated after the first round.
 */
export class GranuleCache {
  readonly #chunks: Chunk[] = [];
  #open: number | undefined;
  #tick = 0;

  /** `cacheBytes` is rounded down to whole chunks, and at least CACHE_BYTES_MIN. */
  constructor(options: { readonly cacheBytes?: number } = {}) {
    const bytes = Math.max(options.cacheBytes ?? CACHE_BYTES_DEFAULT, CACHE_BYTES_MIN);
    for (let i = 0; i < Math.floor(bytes / CHUNK_BYTES); i++) {
      this.#chunks.push({
        memory: undefined,
        filled: 0,
        pins: 0,
        spoiled: false,
        lastUsed: 0,
        owners: Array.from({ length: GRANULES_PER_CHUNK }, () => undefined),
        granules: new Float64Array(GRANULES_PER_CHUNK),
      });
    }
  }

  /**
   * Up to `count` adjacent slots, to be filled and then committed and unpinned. Undefined where every chunk is being
   * filled: the caller reads past the cache.
   */
  reserve(count: number): Reservation | undefined {
    if (this.#open === undefined || this.#chunk(this.#open).filled === GRANULES_PER_CHUNK)
      this.#open = this.#emptyChunk();
    if (this.#open === undefined) return undefined;
    const chunk = this.#chunk(this.#open);
    chunk.memory ??= Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const taken = Math.min(count, GRANULES_PER_CHUNK - chunk.filled);
    const slot = this.#open * GRANULES_PER_CHUNK + chunk.filled;
    chunk.filled += taken;
    chunk.pins += 1;
    this.#touch(chunk);
    return { slot, count: taken };
  }

  /** The memory of adjacent slots. */
  view(reservation: Reservation): Buffer {
    const { memory, start } = this.#place(reservation.slot);
    return memory.subarray(start, start + reservation.count * GRANULE_BYTES);
  }

  /** From now on `slots` finds `granule` in `slot`. */
  commit(slot: number, slots: GranuleSlots, granule: number): void {
    const chunk = this.#chunk(Math.floor(slot / GRANULES_PER_CHUNK));
    chunk.owners[slot % GRANULES_PER_CHUNK] = slots;
    chunk.granules[slot % GRANULES_PER_CHUNK] = granule;
    slots.set(granule, slot);
  }

  /** The load has ended. Where it failed, its slots stay unused and their memory is not used again. */
  unpin(reservation: Reservation, failed: boolean): void {
    const chunk = this.#chunk(Math.floor(reservation.slot / GRANULES_PER_CHUNK));
    chunk.pins -= 1;
    chunk.spoiled ||= failed;
  }

  /** Copies bytes [from, to) of the granule in `slot`. */
  copy(slot: number, from: number, to: number, target: Uint8Array, targetAt: number): void {
    const { memory, start } = this.#place(slot);
    memory.copy(target, targetAt, start + from, start + to);
  }

  /** Forgets everything of one source. */
  forget(slots: GranuleSlots): void {
    for (const slot of slots.values())
      this.#chunk(Math.floor(slot / GRANULES_PER_CHUNK)).owners[slot % GRANULES_PER_CHUNK] =
        undefined;
    slots.clear();
  }

  #place(slot: number): { readonly memory: Buffer; readonly start: number } {
    const chunk = this.#chunk(Math.floor(slot / GRANULES_PER_CHUNK));
    this.#touch(chunk);
    const memory = must(chunk.memory, "a slot has memory");
    return { memory, start: (slot % GRANULES_PER_CHUNK) * GRANULE_BYTES };
  }

  #touch(chunk: Chunk): void {
    this.#tick += 1;
    chunk.lastUsed = this.#tick;
  }

  #chunk(index: number): Chunk {
    return must(this.#chunks[index], "a chunk of the cache");
  }

  /** The chunk that was unused for longest, emptied. */
  #emptyChunk(): number | undefined {
    let oldest: number | undefined;
    for (const [index, chunk] of this.#chunks.entries()) {
      if (chunk.pins > 0) continue;
      if (oldest === undefined || chunk.lastUsed < this.#chunk(oldest).lastUsed) oldest = index;
    }
    if (oldest === undefined) return undefined;
    const chunk = this.#chunk(oldest);
    for (let i = 0; i < chunk.filled; i++) {
      const slots = chunk.owners[i];
      const granule = chunk.granules[i] ?? 0;
      chunk.owners[i] = undefined;
      if (slots === undefined) continue;
      assert(slots.delete(granule), "an owner knows what it has in the cache");
    }
    chunk.filled = 0;
    if (chunk.spoiled) chunk.memory = undefined;
    chunk.spoiled = false;
    return oldest;
  }
}
