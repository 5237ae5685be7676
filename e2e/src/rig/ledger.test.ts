import assert from "node:assert/strict";
import { test } from "node:test";

import { missingRows, rowRangesOf } from "./ledger.ts";

test("a page of rows becomes ranges", () => {
  assert.deepEqual(rowRangesOf("1 1 400\n2 1 17\n2 19 20\nend\n"), [
    { client: 1, first: 1, last: 400 },
    { client: 2, first: 1, last: 17 },
    { client: 2, first: 19, last: 20 },
  ]);
  assert.deepEqual(rowRangesOf("end\n"), []);
});

test("a page that is cut short or holds an error is refused", () => {
  assert.throws(() => rowRangesOf("1 1 400\n"));
  assert.throws(() => rowRangesOf("psql: error: connection failed\nend\n"));
});

test("an acknowledged row that is not there is missing", () => {
  const ranges = rowRangesOf("1 1 10\n2 1 3\n2 5 9\nend\n");
  const row = (client: number, seq: number): { client: number; seq: number } => ({ client, seq });
  assert.deepEqual(missingRows([row(1, 1), row(1, 10), row(2, 5)], ranges), []);
  assert.deepEqual(missingRows([row(2, 4), row(1, 11), row(3, 1)], ranges), [
    row(2, 4),
    row(1, 11),
    row(3, 1),
  ]);
});
