import assert from "node:assert/strict";
import { test } from "node:test";

import { jsonObject } from "./json-value.ts";

test("only objects are objects", () => {
  assert.deepEqual(jsonObject({ a: 1 }), { a: 1 });
  for (const value of [[], null, 1, "a", undefined]) assert.equal(jsonObject(value), undefined);
});
