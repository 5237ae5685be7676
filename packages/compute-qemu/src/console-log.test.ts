import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { CONSOLE_RING_BYTES, drainConsole, readConsole } from "./console-log.ts";
import type { QmpClient } from "./qmp-client.ts";

/** A guest's output behind the one command that reads it. */
function ringOf(output: { bytes: Buffer }): QmpClient {
  return {
    closed: Promise.resolve(),
    async execute(command, args) {
      assert.equal(command, "ringbuf-read");
      const { size } = args as { size: number };
      const piece = output.bytes.subarray(0, size);
      output.bytes = output.bytes.subarray(size);
      return piece.toString("base64");
    },
    [Symbol.dispose]: () => undefined,
  };
}

suite("console log", () => {
  let directory = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "osr-con-"));
  });
  after(() => rm(directory, { recursive: true }));

  test("what was drained is kept in order", async () => {
    const log = join(directory, "a");
    assert.equal(await readConsole(log, 100), "");
    await drainConsole(ringOf({ bytes: Buffer.from("one ") }), log);
    await drainConsole(ringOf({ bytes: Buffer.from("two") }), log);
    assert.equal(await readConsole(log, 100), "one two");
    assert.equal(await readConsole(log, 2), "wo");
    assert.equal(await readConsole(log, 0), "");
    assert.equal((await stat(log)).mode & 0o777, 0o600);
  });

  test("a guest that prints without end fills neither the disk nor our time", async () => {
    const log = join(directory, "b");
    const flood = { bytes: Buffer.alloc(9 * CONSOLE_RING_BYTES, "x") };
    for (let drains = 0; flood.bytes.byteLength > 0; drains++) {
      assert.ok(drains < 10);
      await drainConsole(ringOf(flood), log);
      assert.ok((await stat(log)).size <= 2 * CONSOLE_RING_BYTES);
    }
    await drainConsole(ringOf({ bytes: Buffer.from("the end") }), log);
    assert.equal(await readConsole(log, 10), "xxxthe end");
  });
});
