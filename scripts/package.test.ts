import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..");
const STEP_MS_MAX = 300_000;

/** Runs a command that must succeed; its output is in the error where it does not. */
function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, {
    cwd,
    encoding: "utf8",
    timeout: STEP_MS_MAX,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

test("what is shipped installs without development dependencies and starts", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-package-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const out = join(folder, "build");
  run("tsc", ["-p", "tsconfig.build.json", "--outDir", out], root);
  run(process.execPath, ["scripts/write-manifests.ts", out], root);
  const packages = globSync("{packages,services}/*/", { cwd: out }).map((each) => join(out, each));
  run("npm", ["pack", "--silent", "--pack-destination", folder, ...packages], folder);
  const archives = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  assert.equal(archives.length, packages.length);
  const installed = join(folder, "installed");
  run("mkdir", [installed], folder);
  writeFileSync(join(installed, "package.json"), '{"private":true}\n');
  run(
    "npm",
    [
      ["install", "--omit=dev", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
      archives.map((name) => join(folder, name)),
    ].flat(),
    installed,
  );
  const main = join(installed, "node_modules/@osr/service-osr/src/main.js");

  await t.test("osr starts", () => {
    assert.match(run(process.execPath, [main, "--version"], installed), /^\d+\.\d+\.\d+\n$/);
    assert.match(run(process.execPath, [main, "--help"], installed), /storage-account/);
  });

  await t.test("the mobility service starts", () => {
    const agent = join(installed, "node_modules/@osr/service-mobility-service/src/main.js");
    assert.match(run(process.execPath, [agent, "--help"], installed), /mobility-service/);
  });

  await t.test("an older Node is refused by name and remedy", () => {
    const older = `Object.defineProperty(process.versions, "node", { value: "20.20.2" });`;
    const script = `${older} await import(${JSON.stringify(main)});`;
    const result = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
      timeout: STEP_MS_MAX,
    });
    assert.match(result.stderr, /NODE_TOO_OLD: osr needs Node 26.*Node 20\.20\.2\n\s+remedy: /);
    assert.equal(result.status, 2);
  });
});
