import type { Row } from "./row.ts";

const HEADINGS = ["suite", "case", "metric", "unit", "ours", "rivals", "goal", "holds"];

/** The rows as text for people, in columns. */
export function resultTable(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.suite,
    row.case,
    row.metric,
    row.unit,
    numberText(row.ours),
    Object.entries(row.rivals)
      .map(([name, value]) => `${name} ${numberText(value)}`)
      .join(", "),
    row.goal === "information" ? "" : row.goal,
    row.goal === "information" ? "" : row.holds ? "yes" : "NO",
  ]);
  const widths = HEADINGS.map((heading, column) =>
    Math.max(heading.length, ...cells.map((row) => row[column]?.length ?? 0)),
  );
  return [HEADINGS, ...cells]
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

function numberText(value: number): string {
  if (!Number.isFinite(value)) return "not measured";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toFixed(digits);
}
