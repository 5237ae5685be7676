import assert from "node:assert/strict";
import { test } from "node:test";

import { WaitingLine } from "./waiting-line.ts";

test("who waits longest is served first, and nobody is served without asking", async () => {
  const line = new WaitingLine<string>();
  assert.equal(line.serve("nobody"), false);
  const first = line.wait();
  const second = line.wait();
  assert.equal(line.length, 2);
  assert.equal(line.serve("a"), true);
  assert.equal(line.serve("b"), true);
  assert.equal(line.serve("c"), false);
  assert.deepEqual(await Promise.all([first, second]), ["a", "b"]);
});

test("who gives up leaves the line with the signal's reason, and the next one is served", async () => {
  const line = new WaitingLine<string>();
  const control = new AbortController();
  const gone = line.wait(control.signal);
  const next = line.wait();
  control.abort(new Error("enough"));
  await assert.rejects(gone, /enough/u);
  assert.equal(line.length, 1);
  assert.equal(line.serve("a"), true);
  assert.equal(await next, "a");
});

test("who was served keeps what it got, though it gives up in the same moment", async () => {
  const line = new WaitingLine<string>();
  const control = new AbortController();
  const served = line.wait(control.signal);
  line.serve("a");
  control.abort();
  assert.equal(await served, "a");
});

test("who has given up before does not join", async () => {
  const line = new WaitingLine();
  await assert.rejects(line.wait(AbortSignal.abort(new Error("too late"))), /too late/u);
  assert.equal(line.length, 0);
});
