import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";

import { OsrError, systemErrorCode } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";

import { COMPUTE_ERRORS } from "./compute-errors.ts";

/** Replaces the file by `value` as JSON, so that a reader after any crash sees either all of the old or all of the new. */
export async function writeStateFile(path: string, value: object): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(value, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The value of the file, or undefined where there is none. Throws RECORD_DAMAGED. */
export async function readStateFile<T>(path: string, shape: Shape<T>): Promise<T | undefined> {
  let json: string;
  try {
    json = await readFile(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    return parseJson(json, shape);
  } catch (cause) {
    throw new OsrError(COMPUTE_ERRORS.RECORD_DAMAGED, `${path} cannot be understood`, { cause });
  }
}
