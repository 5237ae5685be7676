import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { crashPointsOf } from "./crash-points.ts";

test("a vault dies at the point that is named, once, and notes all that it passes", () => {
  const folder = mkdtempSync(join(tmpdir(), "osr-crash-points-"));
  try {
    let deaths = 0;
    const pass = crashPointsOf(folder, () => (deaths += 1));
    pass("job:begun");
    writeFileSync(join(folder, "kill"), "task:Boot:worked\n");
    pass("task:Boot:begun");
    assert.equal(deaths, 0);
    pass("task:Boot:worked");
    assert.equal(deaths, 1);
    assert.equal(existsSync(join(folder, "kill")), false);
    pass("task:Boot:worked");
    assert.equal(deaths, 1);
    assert.deepEqual(readFileSync(join(folder, "passed"), "utf8").trim().split("\n"), [
      "job:begun",
      "task:Boot:begun",
      "task:Boot:worked",
      "task:Boot:worked",
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
