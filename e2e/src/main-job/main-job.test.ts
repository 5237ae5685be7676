import assert from "node:assert/strict";
import { test } from "node:test";

import { makeRunFolder } from "../rig/run-folder.ts";
import { newLeaks, ownedByMachine } from "../rig/leaks.ts";
import { narrator } from "../rig/narrator.ts";
import { rigMissing } from "../rig/requirements.ts";
import { objections } from "./evidence.ts";
import { runMainJob } from "./main-job.ts";

test("a running Debian machine is protected, booted from its recovery point, and nothing is lost", async (t) => {
  const missing = process.getuid?.() === 0 ? rigMissing() : "it needs root";
  if (missing !== undefined) {
    t.skip(`no Debian rig here: ${missing}`);
    return;
  }
  const before = await ownedByMachine();
  let path: string;
  {
    await using folder = await makeRunFolder();
    path = folder.path;
    await using stack = new AsyncDisposableStack();
    const { evidence } = await runMainJob({
      narrator: narrator((text) => t.diagnostic(text.trimEnd())),
      folder,
      signal: t.signal,
      stack,
    });
    t.diagnostic(JSON.stringify(evidence));
    assert.deepEqual(objections(evidence), []);
  }
  assert.deepEqual(await newLeaks(before, path), []);
});
