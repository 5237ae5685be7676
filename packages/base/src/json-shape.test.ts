import assert from "node:assert/strict";
import { test } from "node:test";

import {
  boolean,
  integer,
  list,
  object,
  oneOf,
  optional,
  parseJson,
  text,
  uuidText,
} from "./json-shape.ts";

const shape = object({
  name: text(5),
  size: integer(0, 10),
  kind: oneOf("a", "b"),
  on: boolean,
  ids: list(uuidText, 1),
  note: optional(text(3)),
});
const good = {
  name: "x",
  size: 10,
  kind: "b",
  on: false,
  ids: ["00000000-0000-4000-8000-000000000001"],
};

test("a value of the shape comes back without unknown fields", () => {
  assert.deepEqual(parseJson(JSON.stringify({ ...good, more: 1 }), shape), good);
  assert.deepEqual(parseJson(JSON.stringify({ ...good, note: "n" }), shape), {
    ...good,
    note: "n",
  });
});

test("each wrong field is named", () => {
  const wrong: [object, string][] = [
    [{ name: "longer" }, "name"],
    [{ name: 1 }, "name"],
    [{ size: 11 }, "size"],
    [{ size: 1.5 }, "size"],
    [{ size: "1" }, "size"],
    [{ kind: "c" }, "kind"],
    [{ on: 0 }, "on"],
    [{ ids: ["no"] }, "ids[0]"],
    [{ ids: [...good.ids, ...good.ids] }, "ids"],
    [{ note: "four" }, "note"],
  ];
  for (const [change, path] of wrong)
    assert.throws(() => parseJson(JSON.stringify({ ...good, ...change }), shape), {
      code: "INPUT_INVALID",
      details: { path },
    });
  for (const json of ["", "{", "null", "[]", "7"])
    assert.throws(() => parseJson(json, shape), { code: "INPUT_INVALID" });
});
