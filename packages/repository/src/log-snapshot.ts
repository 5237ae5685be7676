import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import { mapBounded } from "./concurrency.ts";
import { checkFollows, listSegments } from "./disk-log.ts";
import { type FrameContext, prepareFrameContext } from "./frame.ts";
import type { IndexOwner } from "./index-part.ts";
import { type DataKey, frameKeyOf, indexRootOf } from "./key-schedule.ts";
import { type LogStretch, readLineage } from "./log-lineage.ts";
import { type LogSegment, type SegmentRef, openSegment } from "./log-segment.ts";
import type { LogId } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { RESOLVED_ROWS_MAX, resolveRuns } from "./run-resolution.ts";
import { RunTable } from "./run-table.ts";
import { type SegmentDirectory, openShard } from "./segment-index.ts";

/** Segments that are opened at once, one for some of all: a connection takes longer to open than several segments on one. */
const OPENS_MAX = 16;
const SEGMENTS_PER_OPEN = 4;
/** Shards that are read at once for one shard of the disk. */
const SHARD_READS_MAX = 32;
/** Memory for merged shards. */
const SHARDS_BYTES_MAX = 64 * MIB;
/** Memory for sealed shards that came with the tails. */
const TAIL_SHARDS_BYTES_MAX = 32 * MIB;

/** A position in a log: everything up to and with segment `seq`. */
type LogPosition = {
  readonly seq: number;
  /** Head of that segment, in hex. */
  readonly headSha256: string;
};

/** A segment that holds frames of a snapshot. */
export type FrameSource = {
  readonly name: string;
  readonly frameKey: Buffer;
  readonly context: FrameContext;
};

type Source = {
  readonly name: string;
  readonly owner: IndexOwner;
  readonly directory: SegmentDirectory;
  readonly framesEnd: number;
  readonly shardsOffset: number;
  readonly shards: Buffer | undefined;
  frames: FrameSource | undefined;
};

export type SnapshotOptions = {
  readonly log: LogId;
  readonly position: LogPosition;
  readonly dataKey: DataKey;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Opens a log at a position: reads the ends of segments 1 to `seq`, and of those that the log branches off, and checks that
 * they form one chain up to the head.
 * Throws LOG_BROKEN, KEY_VERSION_UNKNOWN and what openSegment throws.
 */
export async function openLogSnapshot(
  store: ObjectStore,
  options: SnapshotOptions,
): Promise<LogSnapshot> {
  const { log, position, dataKey, signal } = options;
  const indexRoot = indexRootOf(dataKey);
  const places: Place[] = [];
  for (const stretch of await readLineage(store, log, indexRoot, signal))
    places.push(...(await placesOf(store, stretch, position.seq, signal)));
  let tailBytes = 0;
  const opensMax = Math.min(OPENS_MAX, Math.ceil(places.length / SEGMENTS_PER_OPEN));
  const segments = await mapBounded(places, opensMax, async ({ of, ref }) => {
    const segment = await openSegment(store, of, ref, { indexRoot, signal });
    checkKeyVersion(segment, dataKey);
    tailBytes += segment.shards?.length ?? 0;
    return withoutTail(segment, tailBytes <= TAIL_SHARDS_BYTES_MAX);
  });
  segments.forEach((segment, i) => checkFollows(segment, segments[i - 1]));
  const head = segments.at(-1)?.head.toString("hex");
  if (head !== position.headSha256)
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_BROKEN,
      `segment ${position.seq} of disk ${log.diskId} is not the one that the recovery point names`,
      { details: { seq: position.seq } },
    );
  return new LogSnapshot(store, dataKey, segments);
}

/** Where a segment is: on a timeline that the log consists of. */
type Place = { readonly of: LogId; readonly ref: SegmentRef };

/** The segments of one timeline up to its end, or to `seqEnd` on the log itself. Throws LOG_BROKEN where one is missing. */
async function placesOf(
  store: ObjectStore,
  { log, seqEnd: stretchEnd }: LogStretch,
  positionSeq: number,
  signal: AbortSignal | undefined,
): Promise<readonly Place[]> {
  const seqEnd = stretchEnd ?? positionSeq;
  if (seqEnd === 0) return [];
  const refs = (await listSegments(store, log, signal)).refs.slice(0, seqEnd);
  if (refs.length < seqEnd)
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_BROKEN,
      `the log of disk ${log.diskId} ends at segment ${refs.length}, before segment ${seqEnd}`,
      { details: { seq: refs.length + 1 } },
    );
  return refs.map((ref) => ({ of: log, ref }));
}

/**
 * The state of a disk at one position of its log, as runs. Shards are read when they are first asked for, merged over all
 * segments, and kept while there is room. Fails where an object is missing or damaged.
 */
export class LogSnapshot implements AsyncDisposable {
  readonly #store: ObjectStore;
  readonly #dataKey: DataKey;
  readonly #sources: readonly Source[];
  /** Merged shards, the one that was used longest ago first. */
  readonly #shards = new Map<number, Promise<RunTable>>();
  readonly #sizes = new Map<number, number>();
  readonly #closing = new AbortController();
  #sizeBytes = 0;

  constructor(store: ObjectStore, dataKey: DataKey, segments: readonly LogSegment[]) {
    this.#store = store;
    this.#dataKey = dataKey;
    this.#sources = segments.map(({ name, owner, directory, footer, shards }) => ({
      name,
      owner,
      directory,
      framesEnd: footer.indexOffset,
      shardsOffset: footer.indexOffset + footer.directoryBytes,
      shards,
      frames: undefined,
    }));
  }

  /** The runs of one shard of the disk, sorted, without overlaps; what they leave out is zero. */
  async shard(shardNo: number, signal?: AbortSignal): Promise<RunTable> {
    let loading = this.#shards.get(shardNo);
    if (loading === undefined) loading = this.#load(shardNo);
    else this.#shards.delete(shardNo);
    this.#shards.set(shardNo, loading);
    // Others may wait for the same shard: one caller that gives up does not end the loading.
    return abortable(loading, signal);
  }

  /** The segment that a run names as its source. */
  source(index: number): FrameSource {
    const source = this.#sourceAt(index);
    const { header } = source.owner;
    source.frames ??= {
      name: source.name,
      frameKey: frameKeyOf(this.#dataKey, header.objectId),
      context: prepareFrameContext(header),
    };
    return source.frames;
  }

  /** Origin of the frames of a source, for a worker thread. */
  origin(index: number): IndexOwner["header"] {
    return this.#sourceAt(index).owner.header;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("the snapshot was closed"));
    await Promise.allSettled(this.#shards.values());
    this.#shards.clear();
  }

  #load(shardNo: number): Promise<RunTable> {
    const loading = this.#merge(shardNo);
    loading.then(
      (table) => this.#keep(shardNo, loading, table.sizeBytes),
      () => {
        // A failure is not kept: the next reader asks the store again.
        if (this.#shards.get(shardNo) === loading) this.#shards.delete(shardNo);
      },
    );
    return loading;
  }

  #keep(shardNo: number, loading: Promise<RunTable>, bytes: number): void {
    if (this.#shards.get(shardNo) !== loading) return;
    this.#sizes.set(shardNo, bytes);
    this.#sizeBytes += bytes;
    for (const oldest of this.#shards.keys()) {
      if (this.#sizeBytes <= SHARDS_BYTES_MAX) return;
      const size = this.#sizes.get(oldest);
      // Those that are still loading have no size yet, and the newest one stays.
      if (size === undefined || oldest === shardNo) continue;
      this.#sizeBytes -= size;
      this.#sizes.delete(oldest);
      this.#shards.delete(oldest);
    }
  }

  async #merge(shardNo: number): Promise<RunTable> {
    const having: number[] = [];
    this.#sources.forEach(({ directory }, index) => {
      if (directory.findShard(shardNo) !== undefined) having.push(index);
    });
    let merged = new RunTable();
    for (let at = 0; at < having.length; at += SHARD_READS_MAX) {
      const some = having.slice(at, at + SHARD_READS_MAX);
      const tables = await mapBounded(some, SHARD_READS_MAX, (index) => this.#read(shardNo, index));
      for (const table of tables) {
        if (merged.length + table.length > RESOLVED_ROWS_MAX) merged = resolveRuns(merged);
        merged.pushAll(table);
      }
    }
    return (having.length > 1 ? resolveRuns(merged) : merged).trim();
  }

  async #read(shardNo: number, index: number): Promise<RunTable> {
    const source = this.#sourceAt(index);
    const entry = source.directory.findShard(shardNo);
    if (entry === undefined) return new RunTable(0);
    let sealed = source.shards?.subarray(entry.offset, entry.offset + entry.sealedBytes);
    if (sealed === undefined) {
      sealed = Buffer.alloc(entry.sealedBytes);
      const offset = source.shardsOffset + entry.offset;
      await this.#store.read(source.name, offset, sealed, this.#closing.signal);
    }
    return openShard(sealed, entry, source.owner, { framesEnd: source.framesEnd, source: index });
  }

  #sourceAt(index: number): Source {
    const source = this.#sources[index];
    if (source === undefined)
      throw new OsrError(REPOSITORY_ERRORS.INDEX_DAMAGED, `there is no source ${index}`);
    return source;
  }
}

/** Copies what is kept of a segment, so that its 64 KiB tail is freed. */
function withoutTail(segment: LogSegment, keepShards: boolean): LogSegment {
  const { headerBytes, shards } = segment;
  return {
    ...segment,
    headerBytes: Buffer.from(headerBytes),
    shards: keepShards && shards !== undefined ? Buffer.from(shards) : undefined,
  };
}

function checkKeyVersion({ name, owner }: LogSegment, dataKey: DataKey): void {
  if (owner.header.keyVersion !== dataKey.version)
    throw new OsrError(
      REPOSITORY_ERRORS.KEY_VERSION_UNKNOWN,
      `${name} uses version ${owner.header.keyVersion} of the data key, given was ${dataKey.version}`,
    );
}

/** `promise`, or the signal's reason as soon as it is aborted. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
