import assert from "node:assert/strict";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";

import { ItemKeys } from "./item-keys.ts";

const fabric = uuidOfName("test", "fabric");
const diskId = uuidOfName("test", "disk");
const item = { id: uuidOfName("test", "item"), changed_at: 1 };

test("keys are read once, and again after whatever changed the item, or after it was not wished", async () => {
  const keys = new ItemKeys();
  let reads = 0;
  const read = () => {
    reads += 1;
    return Promise.resolve({ diskId, version: 1, bytes: Buffer.alloc(32, reads) });
  };
  const asked = async (owner: typeof item): Promise<number> =>
    (await keys.forWish(fabric, [owner])(owner, diskId, read)).bytes[0] ?? 0;
  assert.deepEqual([await asked(item), await asked(item)], [1, 1]);
  assert.equal(await asked({ ...item, changed_at: 2 }), 2);
  keys.forWish(fabric, []);
  assert.equal(await asked({ ...item, changed_at: 2 }), 3);
});
