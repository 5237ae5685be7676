import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { startReasonOf } from "./start-reason.ts";

test("a run in the boot of the last one was restarted; any other one follows a reboot", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-start-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const bootId = join(folder, "boot_id");
  const run = join(folder, "run");
  writeFileSync(bootId, "one\n");
  assert.equal(startReasonOf(run, bootId), "MACHINE_REBOOTED");
  assert.equal(startReasonOf(run, bootId), "AGENT_RESTARTED");
  writeFileSync(bootId, "two\n");
  assert.equal(startReasonOf(run, bootId), "MACHINE_REBOOTED");
  assert.equal(startReasonOf(run, bootId), "AGENT_RESTARTED");
});
