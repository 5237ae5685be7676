import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { must } from "@osr/base/assert";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { daemonOf, isAlive, killProcess } from "./process-identity.ts";

suite("process identity", () => {
  let directory = "";
  let pidFile = "";
  let child: ChildProcess;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "osr-pid-"));
    pidFile = join(directory, "p.pid");
    const script = `setInterval(() => undefined, 1000); console.log("up")`;
    const stdio = ["ignore", "pipe", "ignore"] as const;
    child = spawn(process.execPath, ["-e", script, "--", "--pid-file", pidFile], {
      stdio: [...stdio],
    });
    await once(must(child.stdout, "piped"), "data");
    await writeFile(pidFile, `${child.pid}\n`);
  });
  after(async () => {
    child.kill("SIGKILL");
    await rm(directory, { recursive: true });
  });

  test("a pid file counts only for a process that was given it", async () => {
    assert.equal((await daemonOf(pidFile))?.pid, child.pid);
    const foreign = join(directory, "foreign.pid");
    for (const text of [
      `${child.pid}\n`,
      `${process.pid}\n`,
      "1\n",
      "0",
      "-1",
      "999999999",
      "",
      "x",
    ]) {
      await writeFile(foreign, text);
      assert.equal(await daemonOf(foreign), undefined, text);
    }
    assert.equal(await daemonOf(join(directory, "none.pid")), undefined);
  });

  test("a pid that another process has by now is not touched; the right one is ended", async () => {
    const identity = must(await daemonOf(pidFile), "it runs");
    assert.ok(await isAlive(identity));
    for (const other of [
      { ...identity, startTicks: identity.startTicks - 1 },
      { ...identity, bootId: "another-boot" },
    ]) {
      assert.equal(await isAlive(other), false);
      await killProcess(other, systemScheduler, 1000);
      assert.ok(await isAlive(identity), "the process with that pid lives on");
    }
    await killProcess(identity, systemScheduler, 5000);
    assert.equal(await isAlive(identity), false);
    await killProcess(identity, systemScheduler, 1000);
  });
});
