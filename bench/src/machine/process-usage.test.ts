import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { timedCommand } from "./command.ts";
import { childrenOf, cpuSecondsOf, peakBytesOf } from "./process-usage.ts";

// Between two looks at the clock it computes: the looks themselves are mostly the kernel's time.
const BURN = `
  const end = process.cpuUsage().user + 3e5;
  while (process.cpuUsage().user < end) for (let i = 0; i < 1e6; i++);
`;

test("the time of a tree counts children that live and children that have ended", async () => {
  const script = `
    require("node:child_process").spawnSync(process.execPath, ["-e", ${JSON.stringify(BURN)}]);
    const child = require("node:child_process").spawn(process.execPath, ["-e", ${JSON.stringify(`${BURN} console.log(1); setInterval(() => {}, 1000);`)}], {stdio: ["ignore", "inherit", "inherit"]});
    process.on("disconnect", () => child.kill());
  `;
  const parent = spawn(process.execPath, ["-e", script], {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  try {
    await once(parent.stdout ?? process.stdin, "data");
    const pid = parent.pid ?? 0;
    const children = childrenOf(pid);
    assert.equal(children.length, 1);
    const whole = cpuSecondsOf([pid]);
    assert.ok(whole >= 0.6, `two children burnt 0.3 s each, and ${whole} s were counted`);
    assert.ok(cpuSecondsOf(children) >= 0.3 && cpuSecondsOf(children) < whole);
    assert.ok(peakBytesOf(pid) > MIB);
  } finally {
    const ended = once(parent, "exit");
    parent.disconnect();
    await ended;
  }
  assert.equal(peakBytesOf(parent.pid ?? 0), 0);
});

test("time(1) counts what a program's children burnt", async () => {
  const script = `require("node:child_process").spawnSync(process.execPath, ["-e", ${JSON.stringify(BURN)}])`;
  const timed = await timedCommand(process.execPath, ["-e", script], {
    timeoutMs: 30_000,
    signal: new AbortController().signal,
  });
  assert.ok(timed.cpuSeconds >= 0.3, String(timed.cpuSeconds));
  assert.ok(timed.peakBytes > 10 * MIB && timed.wallMs > 100);
});
