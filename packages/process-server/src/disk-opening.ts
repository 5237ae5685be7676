import { rm } from "node:fs/promises";

import { OsrError } from "@osr/base/errors";
import { randomUuid } from "@osr/base/uuid";
import type { Uuid } from "@osr/base/uuid";
import type { SessionDisk, SessionRequest } from "@osr/contracts/agent-protocol";
import { type DiskDescriptor, ensureDiskDescriptor } from "@osr/repository/disk-descriptor";
import { indexRootOf } from "@osr/repository/key-schedule";
import { claimLog } from "@osr/repository/log-claim";
import { type LogEnd, type LogTip, readLogEnd, tipOf } from "@osr/repository/log-end";
import { readLineage } from "@osr/repository/log-lineage";
import { continueLog, currentLog, isForeign } from "@osr/repository/log-timeline";
import type { LogId } from "@osr/repository/object-names";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import { type TaggedSegment, taggedSegments } from "@osr/repository/tagged-segments";

import type { AdmittedDisk } from "./disk-authority.ts";
import { DiskStream } from "./disk-stream.ts";
import { readLastRecord } from "./last-record.ts";
import { type LogOwner, readLogOwner, writeLogOwner } from "./log-owner.ts";
import { checkMachine } from "./machine-check.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import type { RoleContext } from "./role-context.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import { sessionReplaced } from "./session-table.ts";
import { diskFolder } from "./spool-layout.ts";
import { recoverSpool } from "./spool-recovery.ts";

/**
 * Segments that are opened in search of tags whose points an earlier owner did not come to make: it makes them as soon as
 * the last tag is in the log, so only what went up since its newest point counts.
 */
const TAG_SEARCH_SEGMENTS_MAX = 256;

/** A disk that is to be written, as the machine and its authority describe it. */
export type DiskToOpen = {
  readonly machineId: Uuid;
  readonly request: SessionRequest;
  readonly disk: SessionDisk;
  readonly admitted: AdmittedDisk;
  /** False for a session that goes on after a restart: a log that another owner has claimed meanwhile is not its any more. */
  readonly mayClaim: boolean;
};

type Reading = { readonly indexRoot: Buffer; readonly signal: AbortSignal };

/**
 * Opens the stream of a disk: describes the disk in the storage account, finds the end of its log, recovers what an
 * earlier run left in the spool, and claims the log unless this spool owns it already (SESSION_REPLACED where it may not).
 * Where somebody without the keys has taken the log's next name, the disk goes on in a child timeline. Write order: the
 * fence is in the log before `owner.json` says that it is ours; a crash between them costs one more fence.
 */
export async function openDiskStream(
  context: RoleContext,
  points: RecoveryPoints,
  toOpen: DiskToOpen,
  signal: AbortSignal,
): Promise<DiskStream> {
  const { store } = context;
  const { diskId, dataKey } = toOpen.admitted;
  const indexRoot = indexRootOf(dataKey);
  const { log, end, descriptor, tampering } = await findLog(context, toOpen, { indexRoot, signal });
  const keys: SegmentKeys = { log, dataKey, indexRoot };
  await removeSpoolOfParents(context, log, { indexRoot, signal });
  const folder = diskFolder(context.spoolFolder, diskId, log.timeline);
  let tip = end.tip === undefined ? undefined : tipOf(end.tip);
  const segments = await recoverSpool(folder, keys, tip, context.log.child({ diskId }));
  const owner = await readLogOwner(folder);
  const isMine = segments.length > 0 || owner?.generation === tip?.generation;
  if (tip === undefined || !isMine) {
    if (!toOpen.mayClaim) throw sessionReplaced(toOpen.request.epoch);
    tip = await claim(context, toOpen.admitted, { keys, folder, owner, signal });
    const search = { indexRoot, segmentsMax: TAG_SEARCH_SEGMENTS_MAX, signal };
    await completePoints(points, taggedSegments(store, log, search));
  } else if (tip.meta.tag !== undefined) {
    const { seq, head } = tip;
    await points.vaulted(tip.meta.tag, { diskId, timeline: log.timeline, seq, head });
  }
  const tipLast = await readLastRecord(folder, tip.seq);
  const start = { keys, folder, tip, tipLast, segments, descriptor, tampering };
  return new DiskStream(context, points, start);
}

type FoundLog = {
  readonly log: LogId;
  readonly end: LogEnd;
  readonly descriptor: DiskDescriptor;
  /** Why the log is not where it was when it was looked for. */
  readonly tampering: OsrError | undefined;
};

/** The log that the disk goes on in: the admitted one, or the newest of its continuations, which is begun where need be. */
async function findLog(
  context: RoleContext,
  toOpen: DiskToOpen,
  reading: Reading,
): Promise<FoundLog> {
  const { store, vaultId } = context;
  const { diskId, timeline } = toOpen.admitted;
  let tampering: OsrError | undefined;
  for (let log = await currentLog(store, { vaultId, diskId, timeline }, reading); ;) {
    const wanted = descriptorOf(toOpen, log);
    const descriptor = await describeDisk(context, wanted, reading);
    const end = await readLogEnd(store, log, reading.indexRoot, reading.signal);
    if (descriptor !== undefined && end.takenSeq === undefined) {
      checkMachine(toOpen.request.machine, descriptor.machine);
      return { log, end, descriptor, tampering };
    }
    const seq = end.tip?.seq ?? 0;
    const known = { ...reading, seq, descriptor: descriptor ?? wanted };
    const next = await continueLog(store, log, known);
    tampering = tampered(log, seq, next);
    const { code, hint } = tampering;
    context.log.error("the log of a disk was tampered with", { code, hint, error: tampering });
    log = next;
  }
}

function descriptorOf(
  { machineId, request, disk, admitted }: DiskToOpen,
  { diskId, timeline }: LogId,
): DiskDescriptor {
  const { name, sizeBytes, isBoot } = disk;
  const { identity } = admitted;
  const { machine } = request;
  return { diskId, timeline, machineId, identity, name, sizeBytes, isBoot, machine };
}

/** The descriptor of the disk, made where it is missing; undefined where somebody without the keys took its name. */
async function describeDisk(
  { store, vaultId }: RoleContext,
  wanted: DiskDescriptor,
  reading: Reading,
): Promise<DiskDescriptor | undefined> {
  try {
    return await ensureDiskDescriptor(store, vaultId, wanted, reading);
  } catch (error) {
    if (!isForeign(error)) throw error;
    return undefined;
  }
}

/** What the spool holds for timelines that cannot go on is void: the agent sends it again. */
async function removeSpoolOfParents(
  { store, spoolFolder }: RoleContext,
  log: LogId,
  { indexRoot, signal }: Reading,
): Promise<void> {
  const lineage = await readLineage(store, log, indexRoot, signal);
  for (const { log: parent } of lineage.slice(0, -1)) {
    const folder = diskFolder(spoolFolder, log.diskId, parent.timeline);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Tells of tags whose points are not made yet, the oldest first: a point that is made ends the wait for older ones. */
async function completePoints(
  points: RecoveryPoints,
  tagged: AsyncIterable<TaggedSegment>,
): Promise<void> {
  const found: TaggedSegment[] = [];
  for await (const each of tagged) {
    if (points.isMade(each.tag)) break;
    found.push(each);
  }
  for (const { tag, position } of found.toReversed()) await points.vaulted(tag, position);
}

async function claim(
  context: RoleContext,
  { grant }: AdmittedDisk,
  mine: {
    readonly keys: SegmentKeys;
    readonly folder: string;
    readonly owner: LogOwner | undefined;
    readonly signal: AbortSignal;
  },
): Promise<LogTip> {
  const { store, clock, randomness } = context;
  const { keys, folder, signal } = mine;
  const { log, dataKey } = keys;
  const owner = mine.owner?.owner ?? randomUuid(randomness);
  const tip = await claimLog(store, log, { dataKey, owner, grant, clock, randomness, signal });
  await writeLogOwner(folder, { owner, generation: tip.generation });
  const { diskId, timeline } = log;
  context.log.info("claimed the log of a disk", { diskId, timeline, generation: tip.generation });
  return tip;
}

function tampered({ diskId, timeline }: LogId, seq: number, next: LogId): OsrError {
  return new OsrError(
    REPOSITORY_ERRORS.LOG_TAMPERED,
    `disk ${diskId}: what follows segment ${seq} of timeline ${timeline} is not authentic; the disk goes on in timeline ${next.timeline}`,
    { details: { diskId, timeline, seq, next: next.timeline } },
  );
}
