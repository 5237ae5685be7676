import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import { checkFrame } from "@osr/repository/frame";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import {
  OBJECT_HEADER_BYTES,
  type ObjectHeader,
  decodeObjectHeader,
} from "@osr/repository/object-header";
import { SegmentBuilder } from "@osr/repository/segment-builder";
import {
  NO_HEAD,
  SEGMENT_FOOTER_BYTES,
  type SegmentFooter,
  decodeFooter,
} from "@osr/repository/segment-footer";
import { decodeDirectory } from "@osr/repository/segment-index";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import { type ClosedSegment, closedSegmentOf, contentOf } from "./closed-segment.ts";
import { readFully, writeFully } from "./file-writing.ts";
import type { JournalEntry } from "./journal-entry.ts";
import { JOURNAL_HEAD_BYTES, decodeJournalHead, openJournalEntry } from "./journal-format.ts";
import { type LastRecord, lastRecordOf } from "./last-record.ts";
import { appendEntry, frameBytesOfEntry, metaAfter } from "./segment-entry.ts";
import { type SegmentKeys, type SegmentPlan, segmentPlanOf } from "./segment-plan.ts";
import type { SegmentPaths } from "./spool-layout.ts";

/** Header of a `.seg` file, undefined where it has no whole one of this disk. */
export async function readSegmentHeader(
  paths: SegmentPaths,
  keys: SegmentKeys,
): Promise<ObjectHeader | undefined> {
  const bytes = Buffer.alloc(OBJECT_HEADER_BYTES);
  try {
    const handle = await open(paths.seg, "r");
    try {
      if ((await readFully(handle, bytes, 0)) < bytes.length) return undefined;
    } finally {
      await handle.close();
    }
    const header = decodeObjectHeader(bytes);
    const { vaultId, diskId, timeline } = keys.log;
    return header.vaultId === vaultId && header.diskId === diskId && header.timeline === timeline
      ? header
      : undefined;
  } catch (error) {
    if (isDamage(error) || systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * A segment that was closed: its tail is whole. Undefined where it was not. `checkContent`: also hash all of it, for the
 * last one before a crash, whose tail may have been torn by it.
 */
export async function readClosedSegment(
  paths: SegmentPaths,
  keys: SegmentKeys,
  header: ObjectHeader,
  checkContent: boolean,
): Promise<ClosedSegment | undefined> {
  const plan = segmentPlanOf(keys, header);
  const handle = await open(paths.seg, "r");
  let segment: ClosedSegment;
  try {
    const { size } = await handle.stat();
    if (size < OBJECT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) return undefined;
    const footerBytes = Buffer.alloc(SEGMENT_FOOTER_BYTES);
    await readFully(handle, footerBytes, size - SEGMENT_FOOTER_BYTES);
    const footer = decodeFooter(footerBytes, size);
    const meta = await readMeta(handle, plan, footer);
    const last = await readLastEntry(paths, plan, footer.indexOffset);
    if (last === undefined) return undefined;
    segment = { plan, paths, meta, last, sizeBytes: size, footer, footerBytes };
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  } finally {
    await handle.close();
  }
  return checkContent && !(await contentHolds(segment)) ? undefined : segment;
}

async function readMeta(
  handle: FileHandle,
  plan: SegmentPlan,
  footer: SegmentFooter,
): Promise<SegmentMeta> {
  const directory = Buffer.alloc(footer.directoryBytes);
  await readFully(handle, directory, footer.indexOffset);
  return decodeDirectory(directory, plan, footer.indexBytes - footer.directoryBytes).meta;
}

/**
 * The last record of a closed segment. Behind it the journal may have entries that were not taken in when the segment was
 * closed after a crash: the first one of them has frames that were torn, so that all of them lie beyond its content.
 */
async function readLastEntry(
  paths: SegmentPaths,
  plan: SegmentPlan,
  indexOffset: number,
): Promise<LastRecord | undefined> {
  const journal = await readDurably(paths.jnl);
  if (journal === undefined) return undefined;
  let last: LastRecord | undefined;
  let offset = JOURNAL_HEAD_BYTES;
  for (let entryNo = 0; ; entryNo++) {
    const next = openJournalEntry(journal, offset, entryNo, plan.indexKey);
    if (next === undefined) return last;
    const { entry, bytes } = next;
    if (entry.framesOffset + frameBytesOfEntry(entry) > indexOffset) return last;
    last = lastRecordOf(entry);
    offset += bytes;
  }
}

async function contentHolds(segment: ClosedSegment): Promise<boolean> {
  const hash = createHash("sha256");
  for await (const piece of contentOf(segment)) hash.update(piece);
  return hash.digest().equals(segment.footer.contentSha256);
}

/**
 * Closes a segment that was open when its process server died or a write failed: takes every journal entry that is whole
 * and whose frames are whole, up to the first one that is not; cuts both files there; writes index and footer. Undefined
 * where no entry is whole. `meta`: as the log is before this segment. May be called again after it failed.
 */
export async function recoverSegment(
  paths: SegmentPaths,
  plan: SegmentPlan,
  meta: SegmentMeta,
): Promise<ClosedSegment | undefined> {
  const journal = await readDurably(paths.jnl);
  const head = journal === undefined ? undefined : decodeJournalHead(journal);
  if (journal === undefined || head?.objectId !== plan.header.objectId) return undefined;
  const builder = new SegmentBuilder(plan.header, plan.indexKey);
  const handle = await openIfThere(paths.seg);
  if (handle === undefined) return undefined;
  try {
    let offset = JOURNAL_HEAD_BYTES;
    let metaNow = meta;
    let last: LastRecord | undefined;
    for (let entryNo = 0; ; entryNo++) {
      const next = openJournalEntry(journal, offset, entryNo, plan.indexKey);
      const frames = next === undefined ? undefined : await readFrames(handle, builder, next.entry);
      if (next === undefined || frames === undefined) break;
      appendEntry(builder, next.entry, frames);
      metaNow = metaAfter(metaNow, next.entry);
      last = lastRecordOf(next.entry);
      offset += next.bytes;
    }
    return last === undefined
      ? undefined
      : await close(handle, { paths, plan, builder, meta: metaNow, last });
  } finally {
    await handle.close();
  }
}

/** What is taken for written must not vanish later, or two indexes could be sealed with one nonce. */
async function readDurably(path: string): Promise<Buffer | undefined> {
  const handle = await openIfThere(path);
  try {
    await handle?.datasync();
    return await handle?.readFile();
  } finally {
    await handle?.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r+");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The frames of an entry, where all of them are whole and in their place. */
async function readFrames(
  handle: FileHandle,
  builder: SegmentBuilder,
  entry: JournalEntry,
): Promise<Buffer | undefined> {
  if (entry.framesOffset !== builder.sizeBytes) return undefined;
  const frames = Buffer.allocUnsafe(frameBytesOfEntry(entry));
  if ((await readFully(handle, frames, entry.framesOffset)) < frames.length) return undefined;
  try {
    let offset = 0;
    for (let index = 0; index < entry.frames.length; index += 2) {
      const info = checkFrame(frames, offset);
      if (info.frameNo !== builder.frameCount + index / 2) return undefined;
      if (info.cipherBytes !== entry.frames[index]) return undefined;
      offset += info.bytes;
    }
    return frames;
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}

/** The journal keeps its torn end: with the tail in place nobody reads it again, and without it the cut is the same. */
async function close(
  handle: FileHandle,
  segment: {
    paths: SegmentPaths;
    plan: SegmentPlan;
    builder: SegmentBuilder;
    meta: SegmentMeta;
    last: LastRecord;
  },
): Promise<ClosedSegment> {
  const { paths, plan, builder, meta, last } = segment;
  const indexOffset = builder.sizeBytes;
  const tail = builder.finish(NO_HEAD, meta);
  await handle.truncate(indexOffset);
  let inMemory = false;
  try {
    await writeFully(handle, tail, indexOffset);
    await handle.datasync();
  } catch (error) {
    if (systemErrorCode(error) !== "ENOSPC") throw error;
    await handle.truncate(indexOffset);
    await handle.datasync();
    inMemory = true;
  }
  return closedSegmentOf(plan, paths, { meta, last }, { indexOffset, tail, inMemory });
}

function isDamage(error: unknown): boolean {
  return error instanceof OsrError && error.code in REPOSITORY_ERRORS;
}
