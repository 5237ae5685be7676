import { setMaxListeners } from "node:events";

import { assert } from "@osr/base/assert";
import type { BlockSource, Extent } from "@osr/base/block-source";
import { MIB } from "@osr/base/units";

import { GRANULE_BYTES, GranuleCache, type GranuleSlots } from "./granule-cache.ts";
import { READ_AHEAD_BYTES_DEFAULT, ReadAhead } from "./read-ahead.ts";

/** Longest read of the source. */
const LOAD_GRANULES_MAX = MIB / GRANULE_BYTES;
/** Loads ahead of the readers that may be under way. */
const AHEAD_LOADS_MAX = 8;
/** Granules remembered as zeros. They cost no memory in the cache; when there are more, all are asked for again. */
const ZERO_GRANULES_MAX = 65_536;

export type CachedSourceOptions = {
  /** Memory to share with other sources; by default one of its own, of CACHE_BYTES_DEFAULT. */
  readonly cache?: GranuleCache;
  /** How far sequential readers are served in advance; 0 turns it off. */
  readonly readAheadBytes?: number;
};

/** One read of the source, for every reader that wants one of its granules. */
type Load = {
  readonly done: Promise<void>;
  readonly cancel: AbortController;
  /** Readers that wait for it. A load ahead starts with none and is not cancelled for that. */
  waiters: number;
  readonly granules: number;
  readonly isAhead: boolean;
};

const DONE = Promise.resolve();

/**
 * `source` behind a cache. Two readers of one granule read it once, sequential readers find theirs read in advance,
 * zeros take no memory. A read that fails is not remembered. Disposing it disposes `source`.
 */
export function cachedSource(source: BlockSource, options: CachedSourceOptions = {}): BlockSource {
  return new CachedSource(source, options);
}

class CachedSource implements BlockSource {
  readonly sizeBytes: number;
  readonly #source: BlockSource;
  readonly #cache: GranuleCache;
  readonly #slots: GranuleSlots = new Map();
  readonly #loads = new Map<number, Load>();
  /** Loads by themselves, also those that were cancelled and are still writing. */
  readonly #running = new Set<Load>();
  readonly #zeros = new Set<number>();
  readonly #readAhead: ReadAhead;
  #aheadLoads = 0;
  #disposed = false;

  constructor(source: BlockSource, options: CachedSourceOptions) {
    this.sizeBytes = source.sizeBytes;
    this.#source = source;
    this.#cache = options.cache ?? new GranuleCache();
    this.#readAhead = new ReadAhead({
      sizeBytes: source.sizeBytes,
      windowBytesMax: options.readAheadBytes ?? READ_AHEAD_BYTES_DEFAULT,
    });
  }

  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    const bytes = target.byteLength;
    if (offset < 0 || offset + bytes > this.sizeBytes || this.#disposed)
      return this.#source.read(offset, target, signal);
    const ahead = this.#readAhead.note(offset, bytes);
    const isCached = this.#copyCached(offset, target);
    // What was asked for goes first.
    const read = isCached ? DONE : this.#readMissing(offset, target, signal);
    if (ahead !== undefined) this.#startAhead(ahead.offset, ahead.bytes);
    return read;
  }

  extents(offset: number, bytes: number, signal?: AbortSignal): Promise<readonly Extent[]> {
    return this.#source.extents(offset, bytes, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const load of this.#running) load.cancel.abort();
    await Promise.allSettled([...this.#running].map((load) => load.done));
    this.#cache.forget(this.#slots);
    this.#zeros.clear();
    await this.#source[Symbol.asyncDispose]();
  }

  /** True where all of it was there; allocates nothing. */
  #copyCached(offset: number, target: Uint8Array): boolean {
    for (let done = 0; done < target.byteLength;) {
      const copied = this.#copyGranule(offset + done, target, done);
      if (copied === 0) return false;
      done += copied;
    }
    return true;
  }

  /** Copies what one granule has for `target` from `done` on; 0 where it is not in the cache. */
  #copyGranule(offset: number, target: Uint8Array, done: number): number {
    const granule = Math.floor(offset / GRANULE_BYTES);
    const from = offset - granule * GRANULE_BYTES;
    const bytes = Math.min(GRANULE_BYTES - from, target.byteLength - done);
    const slot = this.#slots.get(granule);
    if (slot !== undefined) this.#cache.copy(slot, from, from + bytes, target, done);
    else if (this.#zeros.has(granule)) target.fill(0, done, done + bytes);
    else return 0;
    return bytes;
  }

  async #readMissing(
    offset: number,
    target: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const joined = this.#join(offset, target.byteLength);
    try {
      for (let done = 0; done < target.byteLength;) {
        const load = joined.get(Math.floor((offset + done) / GRANULE_BYTES));
        if (load !== undefined) await this.#settled(load, signal);
        const copied = this.#copyGranule(offset + done, target, done);
        // The cache had no room for it, or has already given its room to another.
        done += copied > 0 ? copied : await this.#readPast(offset + done, target, done, signal);
      }
    } finally {
      for (const load of new Set(joined.values())) this.#leave(load);
    }
  }

  /** Waits for a load. One of several granules may have failed on another one than the reader wants. */
  async #settled(load: Load, signal: AbortSignal | undefined): Promise<void> {
    try {
      await settledOrAborted(load.done, signal);
    } catch (error) {
      if (load.granules === 1 || signal?.aborted === true || this.#disposed) throw error;
    }
  }

  async #readPast(
    offset: number,
    target: Uint8Array,
    done: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const bytes = Math.min(GRANULE_BYTES - (offset % GRANULE_BYTES), target.byteLength - done);
    await this.#source.read(offset, target.subarray(done, done + bytes), signal);
    return bytes;
  }

  /** Makes sure that every missing granule of the range is on its way; gives the loads to wait for, joined once each. */
  #join(offset: number, bytes: number): Map<number, Load> {
    const last = Math.floor((offset + bytes - 1) / GRANULE_BYTES);
    const joined = new Map<number, Load>();
    for (let granule = Math.floor(offset / GRANULE_BYTES); granule <= last; granule++) {
      if (this.#slots.has(granule) || this.#zeros.has(granule)) continue;
      const load = this.#loads.get(granule) ?? this.#start(granule, last, false);
      joined.set(granule, load);
    }
    for (const load of new Set(joined.values())) load.waiters += 1;
    return joined;
  }

  #leave(load: Load): void {
    load.waiters -= 1;
    if (load.waiters > 0 || load.isAhead || !this.#running.has(load)) return;
    // Nobody joins a load that is being cancelled.
    for (const [granule, running] of this.#loads) if (running === load) this.#loads.delete(granule);
    load.cancel.abort();
  }

  #startAhead(offset: number, bytes: number): void {
    const last = Math.floor((offset + bytes - 1) / GRANULE_BYTES);
    for (let granule = Math.floor(offset / GRANULE_BYTES); granule <= last; granule++) {
      if (this.#aheadLoads >= AHEAD_LOADS_MAX) return;
      if (!this.#isMissing(granule)) continue;
      this.#start(granule, last, true);
    }
  }

  #isMissing(granule: number): boolean {
    return !this.#slots.has(granule) && !this.#zeros.has(granule) && !this.#loads.has(granule);
  }

  /** Starts a load at `first` that goes on while granules are missing, up to `last`. */
  #start(first: number, last: number, isAhead: boolean): Load {
    let count = 1;
    while (count < LOAD_GRANULES_MAX && first + count <= last && this.#isMissing(first + count))
      count += 1;
    const cancel = new AbortController();
    setMaxListeners(0, cancel.signal);
    const done = this.#load(first, count, cancel.signal).finally(() => {
      this.#running.delete(load);
      if (isAhead) this.#aheadLoads -= 1;
      for (let i = 0; i < count; i++)
        if (this.#loads.get(first + i) === load) this.#loads.delete(first + i);
    });
    const load: Load = { done, cancel, waiters: 0, granules: count, isAhead };
    // Readers learn of a failure by `done`; of a load ahead nobody may be waiting, and it is tried again on demand.
    done.catch(() => undefined);
    this.#running.add(load);
    if (isAhead) this.#aheadLoads += 1;
    for (let i = 0; i < count; i++) this.#loads.set(first + i, load);
    return load;
  }

  async #load(first: number, count: number, signal: AbortSignal): Promise<void> {
    const offset = first * GRANULE_BYTES;
    const bytes = Math.min(count * GRANULE_BYTES, this.sizeBytes - offset);
    const zeros = zeroGranules(
      first,
      count,
      await this.#source.extents(offset, bytes, signal),
      this.sizeBytes,
    );
    const loads: Promise<void>[] = [];
    for (let i = 0; i < count;) {
      let run = 1;
      while (i + run < count && zeros[i + run] === zeros[i]) run += 1;
      if (zeros[i] === 1) this.#rememberZeros(first + i, run);
      else run = this.#loadRun(first + i, run, signal, loads);
      i += run;
    }
    const settled = await Promise.allSettled(loads);
    for (const result of settled) if (result.status === "rejected") throw result.reason as Error;
  }

  #rememberZeros(first: number, count: number): void {
    if (this.#zeros.size + count > ZERO_GRANULES_MAX) this.#zeros.clear();
    for (let i = 0; i < count; i++) this.#zeros.add(first + i);
  }

  /** Begins to read granules straight into the cache; gives how many. Without room, readers read past the cache. */
  #loadRun(first: number, count: number, signal: AbortSignal, loads: Promise<void>[]): number {
    const reservation = this.#cache.reserve(count);
    if (reservation === undefined) return count;
    const offset = first * GRANULE_BYTES;
    const bytes = Math.min(reservation.count * GRANULE_BYTES, this.sizeBytes - offset);
    const target = this.#cache.view(reservation).subarray(0, bytes);
    const fill = async (): Promise<void> => {
      let failed = true;
      try {
        await this.#source.read(offset, target, signal);
        failed = false;
        if (this.#disposed) return;
        for (let i = 0; i < reservation.count; i++)
          if (!this.#slots.has(first + i))
            this.#cache.commit(reservation.slot + i, this.#slots, first + i);
      } finally {
        this.#cache.unpin(reservation, failed);
      }
    };
    loads.push(fill());
    return reservation.count;
  }
}

/** For each granule 1 where all of it is zero, else 0. */
function zeroGranules(
  first: number,
  count: number,
  extents: readonly Extent[],
  sizeBytes: number,
): Uint8Array {
  const zeros = new Uint8Array(count).fill(1);
  let covered = first * GRANULE_BYTES;
  for (const extent of extents) {
    assert(extent.offset === covered, "extents have no gaps");
    covered += extent.bytes;
    if (extent.zero) continue;
    const last = Math.floor((extent.offset + extent.bytes - 1) / GRANULE_BYTES);
    for (let granule = Math.floor(extent.offset / GRANULE_BYTES); granule <= last; granule++)
      zeros[granule - first] = 0;
  }
  assert(
    covered === Math.min((first + count) * GRANULE_BYTES, sizeBytes),
    "extents cover the range",
  );
  return zeros;
}

async function settledOrAborted(
  done: Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal === undefined) return await done;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => {
    aborted.reject(signal.reason as Error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([done, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
