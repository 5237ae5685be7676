import assert from "node:assert/strict";
import { test } from "node:test";

import { canonicalJson } from "./canonical-json.ts";

test("keys are sorted at every depth, undefined fields are left out, lists keep their order", () => {
  const value = { b: [2, { z: null, a: "ä\n" }], a: undefined, A: true };
  assert.equal(canonicalJson(value), '{"A":true,"b":[2,{"a":"ä\\n","z":null}]}');
});
