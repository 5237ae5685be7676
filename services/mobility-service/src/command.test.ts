import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { stripTypeScriptTypes } from "node:module";
import { runInNewContext } from "node:vm";

import type { MobilityStatus } from "@osr/mobility-service/mobility-status";

import { becomeAgent } from "./living-agent.ts";
import { NODE_FLAGS } from "./node-flags.ts";

const MAIN = join(import.meta.dirname, "main.ts");

function run(...words: readonly string[]): { code: number | null; out: string; errors: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], {
    encoding: "utf8",
    timeout: 30_000,
  });
  return { code: status, out: stdout, errors: stderr };
}

function folderWith(t: TestContext, status: Partial<MobilityStatus> | undefined): string {
  const folder = mkdtempSync(join(tmpdir(), "osr-command-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const statusFile = join(folder, "status.json");
  const configuration = {
    processServer: { host: "127.0.0.1", port: 1 },
    authority: "/nowhere",
    certificate: "/nowhere",
    privateKey: "/nowhere",
    statusFile,
  };
  writeFileSync(join(folder, "configuration.json"), JSON.stringify(configuration));
  if (status !== undefined) writeFileSync(statusFile, JSON.stringify(status));
  return join(folder, "configuration.json");
}

const WELL = {
  state: "protected",
  disks: [],
  pointsMade: 3,
  pointsMissed: 1,
  missedReasons: {},
  health: [],
} as const;

test("a wrong word says how the command is used", () => {
  const { code, errors } = run("go");
  assert.equal(code, 2);
  assert.match(errors, /USAGE: no such command: go\n\s+remedy: osr-mobility-service run/);
});

test("forget removes what a killed service left, but not under a living one", (t) => {
  const configuration = folderWith(t, WELL);
  const folder = dirname(configuration);
  writeFileSync(join(folder, "dirty-state"), "");
  writeFileSync(join(folder, "agent"), "1 0");
  const { code, errors } = run("forget", "--config", configuration);
  if (errors.includes("TRACEFS_UNAVAILABLE")) return t.skip(errors);
  assert.equal(code, 0, errors);
  assert.deepEqual(readdirSync(folder).toSorted(), ["configuration.json", "status.json"]);
  becomeAgent(folder);
  const refused = run("forget", "--config", configuration);
  assert.equal(refused.code, 1);
  assert.match(refused.errors, /TRACKER_BUSY/);
});

test("a file that the configuration names and that is missing is named with its field", (t) => {
  const { code, errors } = run("run", "--config", folderWith(t, undefined));
  assert.equal(code, 2);
  assert.match(errors, /CONFIGURATION_INVALID: authority names \/nowhere/);
});

test("enrolling with a token that is not there names the file", (t) => {
  const state = mkdtempSync(join(tmpdir(), "osr-command-"));
  t.after(() => rmSync(state, { recursive: true }));
  const config = join(state, "configuration.json");
  const words = ["enrol", "--token", "/nowhere/token", "--state", state, "--config", config];
  const { code, errors } = run(...words);
  assert.equal(code, 1);
  assert.match(
    errors,
    /FILE_UNREADABLE: \/nowhere\/token cannot be read: ENOENT\n\s+remedy: Check/,
  );
  writeFileSync(join(state, "token"), "not a token");
  const other = run("enrol", "--token", join(state, "token"), "--state", state, "--config", config);
  assert.equal(other.code, 1);
  assert.match(other.errors, /^INPUT_INVALID: .*\n\s+remedy:/m);
});

test("run becomes a Node with the flags that it needs, those of its unit among them", () => {
  const unit = readFileSync(
    join(import.meta.dirname, "../systemd/osr-mobility-service.service"),
    "utf8",
  );
  const line = /^ExecStart=.*$/m.exec(unit)?.[0] ?? "";
  for (const flag of NODE_FLAGS) assert.ok(line.includes(` ${flag} `), flag);
  const { code, errors } = run("run", "--config", "/nonexistent");
  assert.equal(code, 2);
  assert.match(errors, /^CONFIGURATION_INVALID: /, "and without a warning");
});

test("status says that nothing runs, from a missing status and from an old one", (t) => {
  const missing = run("status", "--config", folderWith(t, undefined));
  assert.equal(missing.code, 1);
  assert.match(missing.errors, /STATUS_MISSING/);
  const old = run("status", "--config", folderWith(t, { ...WELL, unixMs: Date.now() - 60_000 }));
  assert.equal(old.code, 1);
  assert.match(old.out, /^state +not running/);
});

test("status of a healthy service is 0, in words and as JSON", (t) => {
  const file = folderWith(t, { ...WELL, unixMs: Date.now() });
  const words = run("status", "--config", file);
  assert.equal(words.code, 0, words.errors);
  assert.match(words.out, /^state +protected\n[^]*points +3 made, 1 missed/);
  const json = JSON.parse(run("status", "--config", file, "--json").out) as MobilityStatus;
  assert.equal(json.pointsMade, 3);
});

test("the disks are a table with the bytes at each hop; what is wrong comes with its remedy", (t) => {
  const disk = {
    identity: "serial:a",
    name: "vda",
    sizeBytes: 2 ** 30,
    stage: "resync",
    resync: { reason: "TRACKING_LOST", comparedBytes: 2 ** 29, differingBytes: 0 },
    dirtyBytes: 0,
    openIntervals: 0,
    readBytes: 2 ** 20,
    sentBytes: 2 ** 20,
    sentAgainBytes: 0,
    spooledBytes: 2 ** 19,
    pendingUploadBytes: 2 ** 18,
    vaultedBytes: 2 ** 17,
    progress: 0.5,
    rateBytesPerSecond: 0,
  } as const;
  const health = [{ code: "TRACKING_LOST", message: "vda: events", hint: "Wait." }];
  const status = { ...WELL, state: "resync", disks: [disk], health, unixMs: Date.now() } as const;
  const { code, out } = run("status", "--config", folderWith(t, status));
  assert.equal(code, 1);
  const [headings = "", row = ""] = out.split("\n").slice(5);
  const at = (column: string): string =>
    row.slice(headings.indexOf(column)).split(/ {2,}/)[0] ?? "";
  assert.equal(at("stage"), "resync (TRACKING_LOST)");
  assert.equal(at("progress"), "50.0 %");
  assert.deepEqual(["read", "spooled", "pending", "vaulted"].map(at), [
    "1.00 MiB",
    "512 KiB",
    "256 KiB",
    "128 KiB",
  ]);
  assert.match(out, /\nTRACKING_LOST: vda: events\n {2}remedy: Wait\.\n/);
});

test("an older Node is refused by name, before anything that it cannot run is loaded", () => {
  const source = stripTypeScriptTypes(readFileSync(MAIN, "utf8")).replace(/^#!.*/, "");
  const said: string[] = [];
  const fakeProcess = {
    versions: { node: "20.19.0" },
    argv: [],
    exitCode: 0,
    stderr: { write: (text: string) => said.push(text) },
  };
  // As a script, so that an import at the top would be a syntax error; the one in the branch is not reached.
  runInNewContext(`(async () => {${source}})()`, { process: fakeProcess });
  assert.equal(fakeProcess.exitCode, 2);
  assert.match(said.join(""), /NODE_TOO_OLD.*Node 26.*Node 20\.19\.0\n\s+remedy: install Node 26/);
});
