import { frameBytesOf } from "@osr/repository/frame";
import type { SegmentBuilder } from "@osr/repository/segment-builder";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import type { JournalEntry } from "./journal-entry.ts";

/** Bytes of all frames of an entry. */
export function frameBytesOfEntry(entry: JournalEntry): number {
  let bytes = 0;
  for (let index = 0; index < entry.frames.length; index += 2)
    bytes += frameBytesOf(entry.frames[index]!);
  return bytes;
}

/** Gives the frames and runs of an entry to the segment. Writing and recovery both use it, so that both give one index. */
export function appendEntry(builder: SegmentBuilder, entry: JournalEntry, frames: Buffer): void {
  let frameNo = builder.frameCount;
  let offset = builder.append(frames, entry.frames.length / 2);
  let run = 0;
  for (let index = 0; index < entry.frames.length; index += 2) {
    const cipherBytes = entry.frames[index]!;
    const runsEnd = run + entry.frames[index + 1]! * 2;
    let offsetInFrame = 0;
    for (; run < runsEnd; run += 2) {
      const count = entry.runs[run + 1]!;
      builder.runs.put(entry.runs[run]!, count, offsetInFrame, { frameNo, offset, cipherBytes });
      offsetInFrame += count;
    }
    offset += frameBytesOf(cipherBytes);
    frameNo += 1;
  }
  for (let zero = 0; zero < entry.zeroRuns.length; zero += 2)
    builder.runs.putZero(entry.zeroRuns[zero]!, entry.zeroRuns[zero + 1]!);
}

/** `meta` of a segment after an entry was added to it. A tag counts once its interval has ended. */
export function metaAfter(
  before: SegmentMeta,
  entry: Pick<JournalEntry, "session" | "interval" | "ended" | "tag">,
): SegmentMeta {
  return {
    session: entry.session,
    interval: entry.interval,
    intervalEnded: entry.ended ? entry.interval : before.intervalEnded,
    ...(entry.ended && entry.tag !== undefined ? { tag: entry.tag } : {}),
  };
}

/** `meta` that a segment starts with: the numbers of the one before it, without its tag or fence. */
export function metaCarriedOn(meta: SegmentMeta): SegmentMeta {
  const { session, interval, intervalEnded } = meta;
  return { session, interval, intervalEnded };
}
