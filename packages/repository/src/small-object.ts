import { canonicalJson } from "@osr/base/canonical-json";
import { type ErrorInfo, OsrError } from "@osr/base/errors";
import { KIB } from "@osr/base/units";

import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import type { ObjectStore } from "./object-store.ts";

/** Nearly every small object is shorter than this, and takes one request. */
const START_BYTES = 8 * KIB;

/** All bytes of an object that is expected to be small. Throws OBJECT_DAMAGED for one that has more than `bytesMax`. */
export async function readSmallObject(
  store: ObjectStore,
  name: string,
  bytesMax: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const start = Buffer.alloc(Math.min(bytesMax, START_BYTES));
  const sizeBytes = await store.readStart(name, start, signal);
  if (sizeBytes > bytesMax)
    throw new OsrError(
      REPOSITORY_ERRORS.OBJECT_DAMAGED,
      `${name} has ${sizeBytes} bytes, more than ${bytesMax}`,
    );
  if (sizeBytes <= start.length) return start.subarray(0, sizeBytes);
  const bytes = Buffer.alloc(sizeBytes);
  start.copy(bytes);
  await store.read(name, start.length, bytes.subarray(start.length), signal);
  return bytes;
}

/**
 * The fields of a canonical JSON object. Other spellings of the same value are refused too, so that one value has one
 * sequence of bytes. Throws `invalid`, or FORMAT_NEWER for a `format` above 1.
 */
export function parseCanonicalObject(bytes: Buffer, invalid: ErrorInfo): Record<string, unknown> {
  const text = bytes.toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new OsrError(invalid, "it is not JSON", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new OsrError(invalid, "it is not a JSON object");
  if (!Buffer.from(canonicalJson(value), "utf8").equals(bytes))
    throw new OsrError(invalid, "it is not canonical JSON");
  const fields = value as Record<string, unknown>;
  if (typeof fields["format"] === "number" && fields["format"] > 1)
    throw new OsrError(REPOSITORY_ERRORS.FORMAT_NEWER, `format ${fields["format"]} is not known`);
  if (fields["format"] !== 1) throw new OsrError(invalid, "format is missing");
  return fields;
}
