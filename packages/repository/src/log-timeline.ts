import { OsrError, hasCode } from "@osr/base/errors";

import {
  type DiskDescriptor,
  type TimelineParent,
  ensureDiskDescriptor,
  readDiskDescriptor,
} from "./disk-descriptor.ts";
import { mapBounded } from "./concurrency.ts";
import { LINEAGE_MAX } from "./log-lineage.ts";
import { type LogId, diskPrefix, timelineEnd, timelineOfName } from "./object-names.ts";
import { type ObjectStore, STORE_ERRORS, listAll } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";

/** Numbers that are tried for a continuation, whoever took them. */
const NUMBERS_MAX = 64;
/** Lists of one object each, before the disk is listed as a whole. */
const SHORT_LISTS_MAX = 64;
const DESCRIPTOR_READS_MAX = 16;

type Reading = { readonly indexRoot: Buffer; readonly signal?: AbortSignal | undefined };

/**
 * Where a log goes on: the log itself, or the newest of the child timelines that were begun because of tampering. Writers
 * ask before they claim, readers of recovery points need not. Two lists and no read where nothing was ever tampered with.
 */
export async function currentLog(store: ObjectStore, log: LogId, reading: Reading): Promise<LogId> {
  const last = log.timeline + NUMBERS_MAX * LINEAGE_MAX;
  const timelines = (await listTimelines(store, log, reading.signal)).filter(
    (timeline) => timeline > log.timeline && timeline <= last,
  );
  const parents = await mapBounded(timelines, DESCRIPTOR_READS_MAX, async (timeline) => ({
    timeline,
    parent: await parentOf(store, { ...log, timeline }, reading),
  }));
  const continuations = new Map<number, number>();
  for (const { timeline, parent } of parents)
    // The lowest number counts: it is the one that everybody finds.
    if (parent?.cause === "tampering" && !continuations.has(parent.timeline))
      continuations.set(parent.timeline, timeline);
  let { timeline } = log;
  for (let next = continuations.get(timeline); next !== undefined;) {
    timeline = next;
    next = continuations.get(timeline);
  }
  return { ...log, timeline };
}

/**
 * The continuation of a log that cannot go on after segment `seq` (0: before its first one) because of tampering: a child
 * timeline, made here or by whoever was earlier. `descriptor` is that of the disk on the log. What the child holds already
 * is for its owner to find out. Throws LOG_TAMPERED where names of too many timelines are taken.
 */
export async function continueLog(
  store: ObjectStore,
  log: LogId,
  continuation: Reading & { readonly seq: number; readonly descriptor: DiskDescriptor },
): Promise<LogId> {
  const { seq, descriptor, ...reading } = continuation;
  const parent: TimelineParent = { timeline: log.timeline, seq, cause: "tampering" };
  const taken = new Set(await listTimelines(store, log, reading.signal));
  for (let timeline = log.timeline + 1; timeline <= log.timeline + NUMBERS_MAX; timeline++) {
    if (taken.has(timeline)) continue;
    const child = { ...log, timeline };
    try {
      const made = { ...descriptor, timeline, parent };
      const found = await ensureDiskDescriptor(store, log.vaultId, made, reading);
      if (found.parent?.timeline === parent.timeline && found.parent.cause === parent.cause)
        return child;
    } catch (error) {
      // Taken by somebody without the keys: the next number.
      if (!isForeign(error)) throw error;
    }
  }
  throw tooMany(log);
}

/** Numbers of the timelines that have any object, ascending as numbers. */
async function listTimelines(
  store: ObjectStore,
  { vaultId, diskId }: LogId,
  signal: AbortSignal | undefined,
): Promise<readonly number[]> {
  const prefix = diskPrefix(vaultId, diskId);
  const timelines = new Set<number>();
  const ascending = (): number[] => [...timelines].toSorted((a, b) => a - b);
  let after: string | undefined;
  for (let lists = 0; lists < SHORT_LISTS_MAX; lists++) {
    const { objects } = await store.list(prefix, {
      pageMax: 1,
      ...(after === undefined ? {} : { after }),
      ...(signal === undefined ? {} : { signal }),
    });
    const name = objects[0]?.name;
    if (name === undefined) return ascending();
    const timeline = timelineOfName(vaultId, diskId, name);
    if (timeline !== undefined) timelines.add(timeline);
    // Over all that the timeline has, at once; names that are none of ours one by one.
    const end = timeline === undefined ? name : timelineEnd({ vaultId, diskId, timeline });
    after = end > name ? end : name;
  }
  // Somebody has filled the folder of the disk with names.
  for await (const { name } of listAll(store, prefix, signal)) {
    const timeline = timelineOfName(vaultId, diskId, name);
    if (timeline !== undefined) timelines.add(timeline);
  }
  return ascending();
}

async function parentOf(
  store: ObjectStore,
  log: LogId,
  { indexRoot, signal }: Reading,
): Promise<TimelineParent | undefined> {
  try {
    return (await readDiskDescriptor(store, log, indexRoot, signal)).parent;
  } catch (error) {
    if (isForeign(error) || hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) return undefined;
    throw error;
  }
}

const FOREIGN_CODES = [
  REPOSITORY_ERRORS.DESCRIPTOR_INVALID,
  REPOSITORY_ERRORS.OBJECT_DAMAGED,
  REPOSITORY_ERRORS.OBJECT_MISPLACED,
];

/** True where a descriptor is not one that was made with the keys. */
export function isForeign(error: unknown): boolean {
  return FOREIGN_CODES.some((info) => hasCode(error, info));
}

function tooMany({ diskId, timeline }: LogId): OsrError {
  return new OsrError(
    REPOSITORY_ERRORS.LOG_TAMPERED,
    `disk ${diskId}: the names of the ${NUMBERS_MAX} timelines after ${timeline} are taken`,
  );
}
