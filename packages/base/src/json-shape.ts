import { OsrError, defineErrors } from "./errors.ts";
import { type Uuid, isUuid } from "./uuid.ts";

const ERRORS = defineErrors({
  INPUT_INVALID: { retryable: false, hint: "Correct the named field and send the request again." },
});

/** Turns outside JSON into a typed value, or throws INPUT_INVALID with the path of the field. */
export type Shape<T> = (value: unknown, path: string) => T;

function invalid(path: string, expected: string, value: unknown): never {
  const got = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  throw new OsrError(ERRORS.INPUT_INVALID, `${path} must be ${expected}, got ${got}`, {
    details: { path },
  });
}

/** Text of at most `charsMax` characters. */
export function text(charsMax: number): Shape<string> {
  return (value, path) =>
    typeof value === "string" && value.length <= charsMax
      ? value
      : invalid(path, `text of at most ${charsMax} characters`, value);
}

/** A whole number within [min, max]. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Shape<number> {
  return (value, path) =>
    typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max
      ? value
      : invalid(path, `a whole number from ${min} to ${max}`, value);
}

export const boolean: Shape<boolean> = (value, path) =>
  typeof value === "boolean" ? value : invalid(path, "true or false", value);

export const uuidText: Shape<Uuid> = (value, path) =>
  isUuid(value) ? value : invalid(path, "a UUID in lower case", value);

/** One of a few words. */
export function oneOf<const T extends string>(...words: readonly T[]): Shape<T> {
  return (value, path) =>
    words.find((word) => word === value) ?? invalid(path, `one of ${words.join(", ")}`, value);
}

export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, path) => (value === undefined || value === null ? undefined : shape(value, path));
}

/** A list of at most `itemsMax`. */
export function list<T>(shape: Shape<T>, itemsMax: number): Shape<readonly T[]> {
  return (value, path) =>
    Array.isArray(value) && value.length <= itemsMax
      ? value.map((item: unknown, index) => shape(item, `${path}[${index}]`))
      : invalid(path, `a list of at most ${itemsMax}`, value);
}

/** An object with these fields; others are dropped, so that newer peers may send more. */
export function object<T extends Record<string, unknown>>(shapes: {
  readonly [K in keyof T]: Shape<T[K]>;
}): Shape<T> {
  return (value, path) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return invalid(path, "an object", value);
    const fields = Object.entries<Shape<unknown>>(shapes).map(([key, shape]) => [
      key,
      shape((value as Record<string, unknown>)[key], path === "" ? key : `${path}.${key}`),
    ]);
    return Object.fromEntries(fields.filter(([, field]) => field !== undefined)) as T;
  };
}

/** Parses JSON text and checks its shape. */
export function parseJson<T>(json: string, shape: Shape<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new OsrError(ERRORS.INPUT_INVALID, "the body is not JSON", { cause });
  }
  return shape(value, "");
}
