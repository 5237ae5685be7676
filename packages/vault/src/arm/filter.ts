import { badRequest } from "./arm-error.ts";

export type FilterTerm = {
  /** In lower case. */
  readonly field: string;
  readonly operator: "eq" | "ne" | "ge" | "gt" | "le" | "lt";
  readonly value: string;
};

const TERMS_MAX = 16;
const TERM =
  /^\(?\s*([A-Za-z][A-Za-z0-9/]*)\s+(eq|ne|ge|gt|le|lt)\s+(?:'((?:[^']|'')*)'|([^\s'()]+))\s*\)?$/i;

/**
 * The subset of OData that clients of this API send: comparisons joined by `and`. Throws ArmError 400 for anything else and for fields that are not in
 * `fields` (lower case): a filter that was ignored would show too much.
 */
export function parseFilter(
  filter: string | undefined,
  fields: readonly string[],
): readonly FilterTerm[] {
  if (filter === undefined || filter.trim() === "") return [];
  const parts = filter.split(/\s+and\s+/i);
  if (parts.length > TERMS_MAX) throw badRequest("$filter", `has more than ${TERMS_MAX} terms`);
  return parts.map((part) => {
    const [, field = "", operator = "", quoted, bare] = TERM.exec(part.trim()) ?? [];
    const term = { field: field.toLowerCase(), operator: operator.toLowerCase() };
    if (!fields.includes(term.field))
      throw badRequest(
        "$filter",
        `terms look like "name eq 'value'"; names are ${fields.join(", ")}`,
      );
    const value = quoted?.replaceAll("''", "'") ?? bare ?? "";
    return { ...term, value } as FilterTerm;
  });
}

/** A filter's time in milliseconds since 1970. */
export function filterTime(value: string): number {
  // oxlint-disable-next-line no-restricted-globals -- only parses text
  const ms = Date.parse(value);
  if (Number.isNaN(ms)) throw badRequest("$filter", "times are ISO 8601");
  return ms;
}
