import { OsrError } from "@osr/base/errors";
import { type Tag, decodeTag, encodeTag } from "@osr/contracts/tag";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/**
 * What the spool knows of one batch (docs/formats/spool.md): which records were taken in, and which blocks its frames
 * hold. Enough to build the index of the segment after a crash.
 */
export type JournalEntry = {
  readonly session: number;
  readonly interval: number;
  readonly firstRecordNo: number;
  readonly lastRecordNo: number;
  /** The batch ends its interval. */
  readonly ended: boolean;
  /** Where the first frame starts in the `.seg` file, in bytes. */
  readonly framesOffset: number;
  /** For each frame: bytes of ciphertext, runs. */
  readonly frames: Uint32Array;
  /** For each run, in the order of the frames: block, count. */
  readonly runs: Uint32Array;
  /** For each zero run: block, count. */
  readonly zeroRuns: Uint32Array;
  /** Of the interval, from the entry with its MARK on. */
  readonly tag?: Tag;
};

export const ENTRY_FIXED_BYTES = 48;
const PAIR_BYTES = 8;
const FLAG_ENDED = 1;
const U32 = 2 ** 32;

export function encodeJournalEntry(entry: JournalEntry): Buffer {
  const tag = entry.tag === undefined ? Buffer.alloc(0) : encodeTag(entry.tag);
  const lists = [entry.frames, entry.runs, entry.zeroRuns];
  const listBytes = lists.reduce((sum, list) => sum + list.byteLength, 0);
  const bytes = Buffer.alloc(ENTRY_FIXED_BYTES + listBytes + tag.length);
  writeU64(bytes, entry.session, 0);
  bytes.writeUInt32LE(entry.interval, 8);
  bytes.writeUInt32LE(entry.firstRecordNo, 12);
  bytes.writeUInt32LE(entry.lastRecordNo, 16);
  bytes.writeUInt32LE(entry.ended ? FLAG_ENDED : 0, 20);
  writeU64(bytes, entry.framesOffset, 24);
  bytes.writeUInt32LE(entry.frames.length / 2, 32);
  bytes.writeUInt32LE(entry.runs.length / 2, 36);
  bytes.writeUInt32LE(entry.zeroRuns.length / 2, 40);
  bytes.writeUInt32LE(tag.length, 44);
  let offset = ENTRY_FIXED_BYTES;
  for (const list of lists) {
    for (const number of list) offset = bytes.writeUInt32LE(number, offset);
  }
  tag.copy(bytes, offset);
  return bytes;
}

/** Throws SPOOL_DAMAGED where the lengths do not fit; the bytes are authentic, so this is a defect of the writer. */
export function decodeJournalEntry(bytes: Buffer): JournalEntry {
  if (bytes.length < ENTRY_FIXED_BYTES) throw damaged("entry is too short");
  const flags = bytes.readUInt32LE(20);
  const [frames, runs, zeroRuns] = [32, 36, 40].map((at) => bytes.readUInt32LE(at));
  const tagBytes = bytes.readUInt32LE(44);
  const length = ENTRY_FIXED_BYTES + (frames! + runs! + zeroRuns!) * PAIR_BYTES + tagBytes;
  if (length !== bytes.length) throw damaged(`entry has ${bytes.length} bytes, not ${length}`);
  if (flags > FLAG_ENDED) throw damaged("unknown flags");
  const [session, framesOffset] = [readU64(bytes, 0), readU64(bytes, 24)];
  if (!Number.isSafeInteger(session) || !Number.isSafeInteger(framesOffset))
    throw damaged("a number is too large");
  let offset = ENTRY_FIXED_BYTES;
  const list = (pairs: number): Uint32Array => {
    const numbers = new Uint32Array(pairs * 2);
    for (let index = 0; index < numbers.length; index++, offset += 4)
      numbers[index] = bytes.readUInt32LE(offset);
    return numbers;
  };
  return {
    session,
    interval: bytes.readUInt32LE(8),
    firstRecordNo: bytes.readUInt32LE(12),
    lastRecordNo: bytes.readUInt32LE(16),
    ended: flags === FLAG_ENDED,
    framesOffset,
    frames: list(frames!),
    runs: list(runs!),
    zeroRuns: list(zeroRuns!),
    ...(tagBytes === 0 ? {} : { tag: tagAt(bytes, offset) }),
  };
}

function tagAt(bytes: Buffer, offset: number): Tag {
  try {
    return decodeTag(bytes.subarray(offset));
  } catch (cause) {
    throw damaged("the tag is not one", cause);
  }
}

function damaged(message: string, cause?: unknown): OsrError {
  return new OsrError(PROCESS_SERVER_ERRORS.SPOOL_DAMAGED, `journal: ${message}`, { cause });
}

function writeU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

function readU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}
