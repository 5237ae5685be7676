import assert from "node:assert/strict";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";
import { uuidOfName } from "@osr/base/uuid";

import { TAG_CLASSES, decodeTag, encodeTag } from "./tag.ts";

const ids = fc.nat(5).map((n) => uuidOfName("tag", String(n)));
const tags = fc.record({
  groupId: ids,
  slot: fc.maxSafeNat(),
  cutId: ids,
  class: fc.constantFrom(...TAG_CLASSES),
  unixMs: fc.maxSafeNat(),
  disks: fc.array(ids, { maxLength: 5 }),
});

export const tagFuzz = fuzzTarget(
  "tag",
  "the payload of a MARK: refused, or a tag that comes back as it was understood",
  fc.property(tags, mutations, (tag, changes) => {
    try {
      const read = decodeTag(mutated(encodeTag(tag), changes));
      assert.deepEqual(decodeTag(encodeTag(read)), read);
    } catch (error) {
      if (!(error instanceof OsrError) || error.code !== "INPUT_INVALID") throw error;
    }
  }),
);
