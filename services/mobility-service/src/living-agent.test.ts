import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { becomeAgent } from "./living-agent.ts";

test("a second agent does not start while the first one lives", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-living-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const other = spawn("sleep", ["60"]);
  t.after(() => other.kill("SIGKILL"));
  await once(other, "spawn");
  becomeAgent(folder, other.pid);
  assert.throws(() => becomeAgent(folder), { code: "TRACKER_BUSY" });
  other.kill("SIGKILL");
  await once(other, "exit");
  becomeAgent(folder);
  becomeAgent(folder);
});
