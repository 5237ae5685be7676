import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { atMost, everyMustHolds } from "./row.ts";
import { resultTable } from "./result-table.ts";
import { runSuites } from "./run-suites.ts";
import { SMALL_SCALE } from "./scale.ts";
import type { Suite } from "./suite.ts";

const quiet = {
  say: () => undefined,
  step: async <T>(_: string, task: () => Promise<T>) => task(),
};

function suite(name: string, run: Suite["run"]): Suite {
  return { name, summary: "", run };
}

function options(suites: readonly Suite[], signal = new AbortController().signal) {
  return { suites, scale: SMALL_SCALE, narrator: quiet, signal };
}

const limit = atMost("must", 5, "at most 5");

test("a suite with a bad number makes the whole run fail, and the table says so", async () => {
  const good = suite("good", async ({ add }) =>
    add({ case: "c", metric: "m", unit: "s", ours: 1, rivals: {}, goal: limit }),
  );
  const bad = suite("bad", async ({ add }) =>
    add({ case: "c", metric: "m", unit: "s", ours: 6, rivals: { rival: 7 }, goal: limit }),
  );
  const { rows, failures } = await runSuites(options([good, bad]));
  assert.deepEqual(failures, []);
  assert.deepEqual(
    rows.map(({ suite, holds, small }) => ({ suite, holds, small })),
    [
      { suite: "good", holds: true, small: true },
      { suite: "bad", holds: false, small: true },
    ],
  );
  assert.equal(everyMustHolds(rows), false);
  const [, , badLine] = resultTable(rows).split("\n");
  assert.match(badLine ?? "", /^bad .* 6\.00 +rival 7\.00 +must: at most 5 +NO$/);
});

test("a suite that fails is told, keeps what it measured, and does not stop the others; nothing is left", async () => {
  let path = "";
  const failing = suite("failing", async ({ folder, add }) => {
    path = folder.path;
    await writeFile(join(await folder.folder("a"), "file"), "");
    add({ case: "c", metric: "m", unit: "s", ours: 1, rivals: {}, goal: limit });
    throw new Error("out of luck");
  });
  const second = suite("second", async ({ add }) =>
    add({ case: "c", metric: "m", unit: "s", ours: 2, rivals: {}, goal: limit }),
  );
  const { rows, failures } = await runSuites(options([failing, second]));
  assert.deepEqual(failures, [{ suite: "failing", message: "out of luck" }]);
  assert.deepEqual(
    rows.map((row) => row.suite),
    ["failing", "second"],
  );
  assert.notEqual(path, "");
  assert.equal(existsSync(path), false);
});

test("after an interruption no further suite begins", async () => {
  const controller = new AbortController();
  const begun: string[] = [];
  const first = suite("first", async () => {
    begun.push("first");
    controller.abort();
  });
  const second = suite("second", async () => void begun.push("second"));
  await runSuites(options([first, second], controller.signal));
  assert.deepEqual(begun, ["first"]);
});
