import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, rmdirSync, statfsSync } from "node:fs";
import { test } from "node:test";

import { runCommand } from "./rig/commands.ts";
import { silentNarrator } from "./rig/narrator.ts";
import { runScenario } from "./run-scenario.ts";
import type { Scenario } from "./scenario.ts";

function scenario(run: Scenario["run"]): Scenario {
  return { name: "test", summary: "", run };
}

const never = new AbortController().signal;

test("a scenario holds where each of its checks does", async () => {
  const good = scenario(async ({ check }) => check("one", true, "1 of 1"));
  const result = await runScenario(good, silentNarrator, never);
  assert.equal(result.holds, true);
  assert.deepEqual(
    result.checks.map(({ check }) => check),
    ["one", "nothing is left behind"],
  );
  const bad = scenario(async ({ check }) => {
    check("one", true, "");
    check("two", false, "");
  });
  assert.equal((await runScenario(bad, silentNarrator, never)).holds, false);
});

test("a scenario that throws or claims nothing does not hold", async () => {
  const thrown = scenario(async () => {
    throw new Error("planted");
  });
  const result = await runScenario(thrown, silentNarrator, never);
  assert.equal(result.holds, false);
  assert.match(result.checks[0]?.detail ?? "", /planted/);
  const empty = scenario(async () => undefined);
  assert.equal((await runScenario(empty, silentNarrator, never)).holds, false);
});

test("a process that a scenario leaves in its folder is found", async (t) => {
  let pid: number | undefined;
  t.after(() => pid !== undefined && process.kill(pid, "SIGKILL"));
  const leaking = scenario(async ({ check, folder }) => {
    check("one", true, "");
    pid = spawn("sleep", ["60"], { cwd: folder.path, stdio: "ignore" }).pid;
  });
  const result = await runScenario(leaking, silentNarrator, never);
  assert.equal(result.holds, false);
  assert.match(result.checks.at(-1)?.detail ?? "", /process \d+ sleep 60/);
});

test("a network namespace, a tracefs instance and pinned programs that nobody uses are found", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("needs root");
  const name = `osr-leak-${process.pid}`;
  await mounted("tracefs", "/sys/kernel/tracing", 0x74726163);
  await mounted("bpf", "/sys/fs/bpf", 0xcafe4a11);
  const folders = [`/sys/kernel/tracing/instances/${name}`, `/sys/fs/bpf/${name}`];
  const namespace = (verb: string): Promise<string> =>
    runCommand("ip", ["netns", verb, name], { timeoutMs: 10_000 });
  t.after(async () => {
    await namespace("delete");
    for (const folder of folders) rmdirSync(folder);
  });
  const leaking = scenario(async ({ check }) => {
    check("one", true, "");
    await namespace("add");
    for (const folder of folders) mkdirSync(folder);
  });
  const result = await runScenario(leaking, silentNarrator, never);
  const [instance, programs] = folders;
  assert.equal(result.checks.at(-1)?.detail, `/run/netns/${name}; ${instance}; ${programs}`);
});

/** As the mobility service does where it is the first to need one. */
async function mounted(type: string, folder: string, magic: number): Promise<void> {
  if (statfsSync(folder).type === magic) return;
  await runCommand("mount", ["-t", type, type, folder], { timeoutMs: 10_000 });
}
