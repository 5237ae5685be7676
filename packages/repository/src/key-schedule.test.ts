import assert from "node:assert/strict";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";

import { comparisonKeyOf, indexRootOf } from "./key-schedule.ts";

const dataKey = { diskId: uuidOfName("disk"), version: 1, bytes: Buffer.alloc(32, 0x5a) };

test("the key of a comparison belongs to one disk at one head, and is no other key", () => {
  const head = Buffer.alloc(32, 1);
  const key = comparisonKeyOf(dataKey, head);
  assert.equal(
    key.toString("hex"),
    "64b50bbce0a27ccb0e771ba2be6dd7a781c46d90255c482a152c7ccd1e714bda",
  );
  assert.notDeepEqual(comparisonKeyOf(dataKey, Buffer.alloc(32, 2)), key);
  assert.notDeepEqual(comparisonKeyOf({ ...dataKey, bytes: Buffer.alloc(32, 0x5b) }, head), key);
  assert.notDeepEqual(indexRootOf(dataKey), key);
});
