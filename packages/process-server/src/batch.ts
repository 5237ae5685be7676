import { blocksOf } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { HRL_ERRORS, HRL_TYPES, type HrlRecord, hrlRecords } from "@osr/contracts/hrl-record";
import { type Tag, decodeTag } from "@osr/contracts/tag";

/** The records of one request: one session, one interval, consecutive numbers. */
export type Batch = {
  readonly session: number;
  readonly interval: number;
  readonly firstRecordNo: number;
  readonly lastRecordNo: number;
  readonly records: readonly HrlRecord[];
};

/** What a batch must fit to. */
export type BatchLimits = { readonly diskSizeBytes: number };

function invalid(message: string, cause?: unknown): never {
  throw new OsrError(HRL_ERRORS.HRL_INVALID, message, cause === undefined ? {} : { cause });
}

/**
 * Reads and checks a batch. Payloads are views of `body`. Throws HRL_INVALID where it is damaged, empty, mixed, has a
 * gap, or names blocks beyond the end of the disk.
 */
export function parseBatch(body: Buffer, limits: BatchLimits): Batch {
  const records = [...hrlRecords(body)];
  const first = records[0]?.header;
  if (first === undefined) invalid("the batch has no records");
  const blocksMax = blocksOf(limits.diskSizeBytes);
  let previous: HrlRecord | undefined;
  for (const record of records) {
    checkRecord(record, previous, blocksMax);
    if (record.header.session !== first.session || record.header.interval !== first.interval)
      invalid("a batch has one session and one interval");
    previous = record;
  }
  return {
    session: first.session,
    interval: first.interval,
    firstRecordNo: first.recordNo,
    lastRecordNo: first.recordNo + records.length - 1,
    records,
  };
}

function checkRecord(
  { header }: HrlRecord,
  previous: HrlRecord | undefined,
  blocksMax: number,
): void {
  const { type, recordNo, block, count } = header;
  const before = previous?.header;
  if (before !== undefined && recordNo !== before.recordNo + 1)
    invalid(`record ${recordNo} follows record ${before.recordNo}`);
  if (before?.type === HRL_TYPES.END) invalid("nothing follows an END");
  if (before?.type === HRL_TYPES.MARK && type !== HRL_TYPES.END)
    invalid("an END follows a MARK at once");
  if (type === HRL_TYPES.END && count !== recordNo)
    invalid(`END counts ${count} records, its number is ${recordNo}`);
  if ((type === HRL_TYPES.DATA || type === HRL_TYPES.ZERO) && block + count > blocksMax)
    invalid(`blocks ${block} to ${block + count - 1} are beyond the end of the disk`);
}

/** The tag of a MARK. Throws HRL_INVALID where it is none. */
export function tagOf(record: HrlRecord): Tag {
  try {
    return decodeTag(record.payload);
  } catch (error) {
    return invalid("the payload of a MARK is not a tag", error);
  }
}
