import { readFileSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";

import { OsrError, defineErrors } from "@osr/base/errors";
import { type Shape, parseJson } from "@osr/base/json-shape";

const ERRORS = defineErrors({
  CONFIGURATION_INVALID: {
    retryable: false,
    hint: "Correct the configuration file; the message names the field, README.md the fields there are.",
  },
});

/** Reads a role's configuration. Throws CONFIGURATION_INVALID, which names file and field. */
export function readConfiguration<T>(path: string, shape: Shape<T>): T {
  try {
    return parseJson(readFileSync(path, "utf8"), shape);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new OsrError(ERRORS.CONFIGURATION_INVALID, `${path}: ${why}`, { cause });
  }
}

/** A path of a configuration file: relative ones are relative to the file's folder. */
export function pathFrom(configurationFile: string, path: string): string {
  return isAbsolute(path) ? path : join(dirname(configurationFile), path);
}
