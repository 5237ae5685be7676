import assert from "node:assert/strict";
import { test } from "node:test";

import { formatOutput, queried } from "./output.ts";

const rows = [
  { name: "web01", bytes: 12, state: undefined },
  { name: "a\tb\nc", bytes: 3, state: { ok: true } },
];

test("a table has aligned columns and one line a row", () => {
  const lines = formatOutput(rows, "table").split("\n");
  assert.deepEqual(lines, [
    "name   bytes  state",
    "-----  -----  -----------",
    "web01  12",
    'a b c  3      {"ok":true}',
    "",
  ]);
});

test("a single result is listed field by field", () => {
  assert.equal(formatOutput({ a: 1, long: "x" }, "table"), "a     1\nlong  x\n");
});

test("tsv keeps the number of columns, whatever a value holds", () => {
  assert.equal(formatOutput(rows, "tsv"), 'web01\t12\t\na b c\t3\t{"ok":true}\n');
});

test("json and yaml keep the values", () => {
  assert.deepEqual(JSON.parse(formatOutput(rows, "json")), JSON.parse(JSON.stringify(rows)));
  assert.equal(formatOutput({ a: [1, "x"] }, "yaml"), "a:\n  - 1\n  - x\n");
});

test("an empty list prints nothing", () => {
  assert.equal(formatOutput([], "table"), "");
  assert.equal(formatOutput([], "tsv"), "");
  assert.equal(formatOutput([], "json"), "[]\n");
});

test("a query takes its part of the result, and a wrong one is refused", () => {
  const output = [{ name: "a", at: new Date(0) }, { name: "b" }];
  assert.deepEqual(queried(output, "[].name"), [{ value: "a" }, { value: "b" }]);
  assert.deepEqual(queried(output, "[?at].at | [0]"), { value: "1970-01-01T00:00:00.000Z" });
  assert.deepEqual(queried(output, "[0].{n: name}"), { n: "a" });
  assert.throws(() => queried(output, "[["), /\[\[/);
});
