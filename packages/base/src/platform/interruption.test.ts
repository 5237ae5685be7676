import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

const MODULE = new URL("interruption.ts", import.meta.url).href;
/** Takes 1.5 s to clean up. */
const PROGRAM = `
const { aborted, interruption } = await import(${JSON.stringify(MODULE)});
const signal = interruption((name) => console.log("stopping by " + name));
const awake = setInterval(() => {}, 1000);
console.log("running");
await aborted(signal);
await new Promise((resolve) => setTimeout(resolve, 1500));
clearInterval(awake);
console.log("clean");`;

async function running(t: TestContext) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exited = once(child, "exit") as Promise<[number | null]>;
  const next = async (): Promise<string | undefined> => {
    const line = await lines.next();
    return line.done === true ? undefined : line.value;
  };
  assert.equal(await next(), "running");
  return { child, next, exited };
}

test("one Ctrl-C that arrives twice lets the program clean up", async (t) => {
  const { child, next, exited } = await running(t);
  child.kill("SIGINT");
  assert.equal(await next(), "stopping by SIGINT");
  child.kill("SIGINT");
  child.kill("SIGTERM");
  assert.equal(await next(), "clean");
  assert.deepEqual((await exited)[0], 0);
});

test("a second Ctrl-C ends the program at once", async (t) => {
  const { child, next, exited } = await running(t);
  child.kill("SIGTERM");
  assert.equal(await next(), "stopping by SIGTERM");
  await wait(1100);
  child.kill("SIGINT");
  assert.equal((await exited)[0], 130);
  assert.equal(await next(), undefined);
});
