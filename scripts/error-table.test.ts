import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { errorPage } from "./error-table.ts";

test("every code of every table is on the page, and nothing is retryable and not", (t) => {
  const root = mkdtempSync(join(tmpdir(), "osr-errors-"));
  t.after(() => rmSync(root, { recursive: true }));
  const folder = join(root, "packages/planted/src");
  mkdirSync(folder, { recursive: true });
  const table = (hint: string): string =>
    `const E = defineErrors({\n  A_CODE: { retryable: true, hint: "${hint}" },\n  // don't {\n  B: { retryable: false, hint: 'a } in it' },\n});\n`;
  writeFileSync(join(folder, "one.ts"), table("Wait."));
  writeFileSync(join(folder, "one.test.ts"), table("Not shown."));
  const page = errorPage(root);
  assert.match(page, /## packages\/planted\n/);
  assert.match(page, /\| A_CODE \| yes \| Wait\. \|/);
  assert.match(page, /\| B \| no \| a \} in it \|/);
  assert.doesNotMatch(page, /Not shown/);
  writeFileSync(join(folder, "two.ts"), table("Run.").replace("true", "false"));
  assert.throws(() => errorPage(root), /A_CODE is retryable and not/);
});
