import { createRequire } from "node:module";

import { search } from "jmespath";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";

const ERRORS = defineErrors({
  QUERY_INVALID: {
    retryable: false,
    hint: "Write a JMESPath expression, such as `[].name` or `properties.state`; `-o json` shows what there is.",
  },
});

export const OUTPUT_FORMATS = ["table", "json", "yaml", "tsv"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** The key of what a result looks like for people, where columns of its fields do not say it. */
export const AS_TEXT: unique symbol = Symbol("as text");

/** One result, or several of a kind; the keys of the first row are the columns of a table. */
export type Output =
  | (Readonly<Record<string, unknown>> & { readonly [AS_TEXT]?: string })
  | readonly Readonly<Record<string, unknown>>[];

/** `output` as text that ends with a line feed; nothing for an empty list in a table or tsv. */
export function formatOutput(output: Output, format: OutputFormat): string {
  switch (format) {
    case "json":
      return `${JSON.stringify(output, null, 2)}\n`;
    case "yaml":
      return yamlOf(output);
    case "tsv":
      return rowsOf(output)
        .map((row) => `${Object.values(row).map(cell).join("\t")}\n`)
        .join("");
    case "table":
      return isList(output) ? tableOf(output) : (output[AS_TEXT] ?? listing(output));
  }
}

/** Loaded when it is asked for: every command would start a fifth slower for what few print. */
function yamlOf(output: Output): string {
  const { stringify } = createRequire(import.meta.url)("yaml") as typeof import("yaml");
  return stringify(output);
}

function isList(output: Output): output is readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(output);
}

function rowsOf(output: Output): readonly Readonly<Record<string, unknown>>[] {
  return isList(output) ? output : [output];
}

function tableOf(rows: readonly Readonly<Record<string, unknown>>[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const cells = [columns, ...rows.map((row) => columns.map((column) => cell(row[column])))];
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((line) => line[index]?.length ?? 0)),
  );
  const rule = widths.map((width) => "-".repeat(width));
  return [cells[0], rule, ...cells.slice(1)]
    .map((line) => (line ?? []).map((text, index) => text.padEnd(widths[index] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .slice(columns.length === 0 ? 2 : 0)
    .join("");
}

function listing(fields: Readonly<Record<string, unknown>>): string {
  const width = Math.max(0, ...Object.keys(fields).map((key) => key.length));
  return Object.entries(fields)
    .map(([key, value]) => `${key.padEnd(width)}  ${cell(value)}\n`)
    .join("");
}

/** One value in one line; tabs and line feeds would break the rows of others. */
function cell(value: unknown): string {
  if (value === undefined || value === null) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.replaceAll(/[\t\r\n]+/g, " ");
}

/** What a JMESPath expression takes from a result; single values become one row. Throws QUERY_INVALID. */
export function queried(output: Output, expression: string): Output {
  let found: unknown;
  try {
    // By way of JSON, so that dates and absent fields are what `-o json` shows.
    found = search(JSON.parse(JSON.stringify(output)), expression);
  } catch (cause) {
    throw new OsrError(ERRORS.QUERY_INVALID, `${expression}: ${messageOf(cause)}`, { cause });
  }
  return Array.isArray(found) ? found.map((one: unknown) => rowOf(one)) : rowOf(found);
}

function rowOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : { value };
}
