import type { JsonValue } from "@osr/base/json-value";
import { KIB } from "@osr/base/units";

import { ArmError } from "./arm-error.ts";

export const BODY_BYTES_MAX = 512 * KIB;
const DEPTH_MAX = 32;

/**
 * The JSON of a request, or undefined where it has no body. Throws ArmError 400 for what is no JSON, is nested too deeply, or holds text that no database
 * keeps: U+0000 and halves of surrogate pairs.
 */
export function parseBody(bytes: Buffer): JsonValue | undefined {
  if (bytes.length === 0) return undefined;
  let value: JsonValue;
  try {
    value = JSON.parse(bytes.toString("utf8")) as JsonValue;
  } catch {
    throw invalid("the body is not JSON");
  }
  check(value);
  return value;
}

function check(value: JsonValue): void {
  let level: readonly JsonValue[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > DEPTH_MAX) throw invalid(`the body is nested more than ${DEPTH_MAX} deep`);
    level = level.flatMap(childrenOf);
  }
}

function childrenOf(value: JsonValue): readonly JsonValue[] {
  if (typeof value === "string") {
    if (value.includes("\0") || !value.isWellFormed())
      throw invalid("the body holds text that is not Unicode, or U+0000");
    return [];
  }
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value as readonly JsonValue[];
  return Object.entries(value).flatMap(([key, field]) => [key, field ?? null]);
}

function invalid(message: string): ArmError {
  return new ArmError(400, "InvalidRequestContent", message, "Send a JSON document in UTF-8.");
}
