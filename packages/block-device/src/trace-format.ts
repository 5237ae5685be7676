import { OsrError } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";

/** Where a page of the kernel's ring buffer keeps what, in bytes. */
export type RingPageLayout = {
  readonly pageBytes: number;
  readonly commitOffset: number;
  readonly dataOffset: number;
};

/** Where a `block_rq_complete` record keeps what, in bytes from its start. Differs between kernels. */
export type RequestFormat = {
  readonly eventId: number;
  readonly deviceOffset: number;
  readonly sectorOffset: number;
  readonly sectorCountOffset: number;
  /** Letters such as `WSM`, ended by a zero. */
  readonly operationOffset: number;
  /** A shorter record is damaged. */
  readonly recordBytes: number;
};

type Field = { readonly offset: number; readonly bytes: number };

/** Parses `events/header_page` of tracefs. Throws TRACE_FORMAT_UNKNOWN. */
export function parseRingPageLayout(text: string): RingPageLayout {
  const fields = parseFields(text);
  const commit = fieldOf(fields, "commit", [4, 8]);
  const data = fieldOf(fields, "data");
  if (commit.offset % 4 !== 0 || data.offset % 4 !== 0 || data.offset < commit.offset + 4)
    throw unknown("the page header is not aligned");
  return {
    pageBytes: data.offset + data.bytes,
    commitOffset: commit.offset,
    dataOffset: data.offset,
  };
}

/** Parses `events/block/block_rq_complete/format` of tracefs. Throws TRACE_FORMAT_UNKNOWN. */
export function parseRequestFormat(text: string): RequestFormat {
  const id = /^ID: (\d+)$/m.exec(text)?.[1];
  if (id === undefined) throw unknown("no event id");
  const fields = parseFields(text);
  const device = fieldOf(fields, "dev", [4]);
  const sector = fieldOf(fields, "sector", [8]);
  const sectorCount = fieldOf(fields, "nr_sector", [4]);
  const operation = fieldOf(fields, "rwbs");
  const type = fieldOf(fields, "common_type", [2]);
  const words = [device, sector, sectorCount];
  if (type.offset !== 0 || words.some(({ offset }) => offset % 4 !== 0) || operation.bytes < 2)
    throw unknown("the fields are not aligned");
  return {
    eventId: Number(id),
    deviceOffset: device.offset,
    sectorOffset: sector.offset,
    sectorCountOffset: sectorCount.offset,
    operationOffset: operation.offset,
    recordBytes: Math.max(...[...words, operation].map(({ offset, bytes }) => offset + bytes)),
  };
}

function parseFields(text: string): ReadonlyMap<string, Field> {
  const pattern = /field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);/g;
  return new Map(
    [...text.matchAll(pattern)].map(([, name, offset, bytes]) => [
      String(name),
      { offset: Number(offset), bytes: Number(bytes) },
    ]),
  );
}

function fieldOf(
  fields: ReadonlyMap<string, Field>,
  name: string,
  sizes?: readonly number[],
): Field {
  const field = fields.get(name);
  if (field === undefined) throw unknown(`no field ${name}`);
  if (sizes !== undefined && !sizes.includes(field.bytes))
    throw unknown(`field ${name} has ${field.bytes} bytes`);
  return field;
}

function unknown(reason: string): OsrError {
  return new OsrError(
    BLOCK_DEVICE_ERRORS.TRACE_FORMAT_UNKNOWN,
    `the trace format is unknown: ${reason}`,
  );
}
