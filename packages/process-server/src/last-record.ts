import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, messageOf } from "@osr/base/errors";
import { type Shape, boolean, integer, object, optional, parseJson } from "@osr/base/json-shape";
import type { Log } from "@osr/base/log";
import { type Tag, tagShape } from "@osr/contracts/tag";

import { readTextIfThere, replaceFile } from "./file-writing.ts";
import type { JournalEntry } from "./journal-entry.ts";
import { lastRecordFile } from "./spool-layout.ts";

/** The newest record of a disk that is durable here, and what of its interval decides about the next one. */
export type LastRecord = {
  readonly session: number;
  readonly interval: number;
  readonly recordNo: number;
  /** It is the END of its interval. */
  readonly ended: boolean;
  /** Of the interval: where it has not ended, its END is due. */
  readonly tag?: Tag | undefined;
};

export function lastRecordOf(
  entry: Pick<JournalEntry, "session" | "interval" | "lastRecordNo" | "ended" | "tag">,
): LastRecord {
  const { session, interval, lastRecordNo: recordNo, ended, tag } = entry;
  return { session, interval, recordNo, ended, tag };
}

type Stored = LastRecord & { readonly seq: number };

const storedShape: Shape<Stored> = object<Stored>({
  seq: integer(1),
  session: integer(0),
  interval: integer(0),
  recordNo: integer(0),
  ended: boolean,
  tag: optional(tagShape),
});

/**
 * Notes the last record of segment `seq`, which is in the log, before its journal goes: nothing else says how far an
 * interval was taken that goes on in the next segment. Durable when it resolves. Where there is no room for it, a restart
 * ends the session, which is better than a spool that never drains.
 */
export async function noteLastRecord(
  folder: string,
  seq: number,
  last: LastRecord,
  log: Log,
): Promise<void> {
  try {
    await replaceFile(lastRecordFile(folder), canonicalJson({ format: 1, seq, ...last }));
  } catch (error) {
    log.warn("the last record is not noted", { folder, error: messageOf(error) });
  }
}

/** Of segment `seq`; undefined where that is not known here. */
export async function readLastRecord(folder: string, seq: number): Promise<LastRecord | undefined> {
  const text = await readTextIfThere(lastRecordFile(folder));
  if (text === undefined) return undefined;
  try {
    const stored = parseJson(text, storedShape);
    return stored.seq === seq ? stored : undefined;
  } catch (error) {
    if (error instanceof OsrError) return undefined;
    throw error;
  }
}
