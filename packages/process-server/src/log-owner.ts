import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError } from "@osr/base/errors";
import { type Shape, integer, object, parseJson, uuidText } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

import { readTextIfThere, replaceFile } from "./file-writing.ts";
import { ownerFile } from "./spool-layout.ts";

/** That this spool belongs to the owner of a log: docs/formats/spool.md, `owner.json`. */
export type LogOwner = { readonly owner: Uuid; readonly generation: number };

const logOwnerShape: Shape<LogOwner> = object<LogOwner>({
  owner: uuidText,
  generation: integer(1),
});

/** Undefined where there is none, or it is not readable: then the log is claimed anew. */
export async function readLogOwner(folder: string): Promise<LogOwner | undefined> {
  const text = await readTextIfThere(ownerFile(folder));
  if (text === undefined) return undefined;
  try {
    return parseJson(text, logOwnerShape);
  } catch (error) {
    if (error instanceof OsrError) return undefined;
    throw error;
  }
}

/** Durable when it resolves. */
export async function writeLogOwner(folder: string, owner: LogOwner): Promise<void> {
  await replaceFile(ownerFile(folder), canonicalJson({ format: 1, ...owner }));
}
