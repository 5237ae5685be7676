import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";

const root = join(import.meta.dirname, "..");
const CHECK_MS_MAX = 60_000;

/** A small project with our settings and these files; gone after the test. */
function planted(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "osr-check-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const settings = [
    ".oxlintrc.json",
    ".oxfmtrc.json",
    "tsconfig.base.json",
    "tsconfig.json",
    "knip.json",
  ];
  for (const name of settings) copyFileSync(join(root, name), join(folder, name));
  // Without it the compiler takes the files for CommonJS, or asks whatever manifest lies above the folder.
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }\n');
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

/** Runs a checker there; its exit code and all that it printed. */
function check(
  folder: string,
  command: string,
  ...args: readonly string[]
): [number | null, string] {
  const { status, stdout, stderr } = spawnSync(join(root, "node_modules/.bin", command), args, {
    cwd: folder,
    encoding: "utf8",
    timeout: CHECK_MS_MAX,
  });
  return [status, `${stdout}${stderr}`];
}

const FILE = "packages/planted/src/planted.ts";
const CLEAN = "export function twice(value: number): number {\n  return 2 * value;\n}\n";
const LINT = ["--deny-warnings", "packages"];

test("canary: clean code passes lint, format and types", (t) => {
  const folder = planted(t, { [FILE]: CLEAN });
  for (const [command, ...args] of [
    ["oxlint", ...LINT],
    ["oxfmt", "--check", "packages"],
    ["tsc"],
  ] as const) {
    const [status, printed] = check(folder, command, ...args);
    assert.equal(status, 0, `${command}: ${printed}`);
  }
});

// Ambient time, randomness and environment come in through ports; each way around them must be found.
const BANNED: Readonly<Record<string, string>> = {
  "Date.now()": "export const value = Date.now();\n",
  "new Date()": "export const value = new Date();\n",
  "performance.now()": "export const value = performance.now();\n",
  "Math.random()": "export const value = Math.random();\n",
  "process.env": 'export const value = process.env["HOME"];\n',
  setTimeout: "setTimeout(() => undefined, 1);\n",
  setInterval: "setInterval(() => undefined, 1);\n",
  setImmediate: "setImmediate(() => undefined);\n",
  "globalThis.setTimeout": "globalThis.setTimeout(() => undefined, 1);\n",
  "globalThis.performance": "export const value = globalThis.performance.now();\n",
  "node:timers": 'export { setTimeout as later } from "node:timers";\n',
  "node:timers/promises":
    'import { setTimeout } from "node:timers/promises";\nawait setTimeout(1);\n',
  "node:perf_hooks":
    'import { performance as p } from "node:perf_hooks";\nexport const value = p.now();\n',
  "randomBytes of node:crypto":
    'import { randomBytes } from "node:crypto";\nexport const value = randomBytes(1);\n',
  "randomUUID of node:crypto":
    'import { randomUUID } from "node:crypto";\nexport const value = randomUUID();\n',
  "webcrypto of node:crypto":
    'import { webcrypto } from "node:crypto";\nexport const value = webcrypto;\n',
  "crypto.randomUUID()": "export const value = crypto.randomUUID();\n",
  "crypto.getRandomValues()": "export const value = crypto.getRandomValues(new Uint8Array(1));\n",
};

for (const [name, text] of Object.entries(BANNED)) {
  test(`canary: lint finds ${name} outside the platform code`, (t) => {
    const folder = planted(t, { [FILE]: text, "packages/base/src/platform/allowed.ts": text });
    const [status, printed] = check(folder, "oxlint", ...LINT);
    assert.equal(status, 1, printed);
    assert.match(printed, /planted\.ts/);
    assert.doesNotMatch(printed, /allowed\.ts/);
  });
}

test("canary: an ill-formatted file, a type error and dead code are each found", (t) => {
  const folder = planted(t, {
    [FILE]: "export   const wide = 1\n",
    "packages/planted/src/wrong.ts": 'export const wrong: number = "text";\n',
    "packages/planted/package.json":
      '{"name":"@osr/planted","type":"module","exports":{"./*":"./src/*.ts"}}',
    "package.json": '{"name":"planted","private":true,"workspaces":["packages/*"]}',
  });
  const [formatStatus, format] = check(folder, "oxfmt", "--check", "packages");
  assert.equal(formatStatus, 1, format);
  assert.match(format, /planted\.ts/);
  const [typeStatus, types] = check(folder, "tsc");
  assert.notEqual(typeStatus, 0);
  assert.match(types, /wrong\.ts/);
  const [knipStatus, dead] = check(folder, "knip");
  assert.notEqual(knipStatus, 0, dead);
  assert.match(dead, /wide/);
});
