import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { must } from "@osr/base/assert";

import { LeftRoles } from "./left-roles.ts";

test("roles of an osr up that is dead are ended, those of one that lives are not, and nobody who has their pid now", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "osr-left-"));
  const children: ChildProcess[] = [];
  t.after(() => {
    for (const child of children) child.kill("SIGKILL");
    rmSync(root, { recursive: true });
  });
  const start = async (): Promise<ChildProcess> => {
    const child = spawn("sleep", ["60"]);
    children.push(child);
    await once(child, "spawn");
    return child;
  };
  const said: string[] = [];
  const left = new LeftRoles(root);
  const end = (): Promise<void> => left.end((line) => void said.push(line));
  await end();
  const vault = await start();
  const other = await start();
  await left.note("vault", must(vault.pid, "pid"));
  await left.note("replica-host", must(other.pid, "pid"));
  await assert.rejects(end(), { code: "SITE_RUNS" });
  assert.deepEqual([vault.exitCode, vault.signalCode, said], [null, null, []]);

  // The osr up is dead, and the replica host too: another process has its pid.
  const change = (name: string, changed: readonly string[]): void => {
    const file = join(root, "run", `${name}.json`);
    const record = JSON.parse(readFileSync(file, "utf8"));
    for (const who of changed) record[who].startTicks -= 1;
    writeFileSync(file, JSON.stringify(record));
  };
  change("vault", ["up"]);
  change("replica-host", ["up", "role"]);
  const gone = once(vault, "exit");
  await end();
  assert.deepEqual(await gone, [null, "SIGTERM"]);
  assert.equal(other.signalCode, null);
  assert.deepEqual(
    said.map((line) => line.replace(/\d+/, "N")),
    ["ending the vault that an earlier osr up has left running (process N)"],
  );
  assert.deepEqual(readdirSync(join(root, "run")), []);
});
