import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";

const SCRIPT = `
const { roleLog } = await import(process.argv[1]);
const log = roleLog("test");
process.stdin.once("data", () => {
  log.info("nobody reads this");
  setImmediate(() => log.info("nor this"));
});
process.stdin.once("end", () => process.exit(7));
`;

test("a role goes on where nobody reads its log any more", async () => {
  const module = join(import.meta.dirname, "role-log.ts");
  const child = spawn(process.execPath, ["--input-type=module", "-e", SCRIPT, module]);
  await once(child, "spawn");
  child.stderr.destroy();
  await once(child.stderr, "close");
  child.stdin.write("go");
  await new Promise((resolve) => void setImmediate(resolve));
  child.stdin.end();
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 7);
});
