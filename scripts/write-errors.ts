import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

import { errorPage } from "./error-table.ts";

const PAGE = "docs/errors.md";

// The same spelling as the rest of the tree: the formatter aligns tables.
const formatted = spawnSync("oxfmt", ["--stdin-filepath", PAGE], {
  input: errorPage("."),
  encoding: "utf8",
});
if (formatted.status !== 0) throw new Error(`oxfmt failed: ${formatted.stderr}`);
if (process.argv.includes("--check")) {
  const isCurrent = readFileSync(PAGE, "utf8") === formatted.stdout;
  console.log(`errors: ${PAGE} ${isCurrent ? "is current" : "is not current: run npm run errors"}`);
  process.exitCode = isCurrent ? 0 : 1;
} else writeFileSync(PAGE, formatted.stdout);
