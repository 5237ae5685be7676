import assert from "node:assert/strict";
import { test } from "node:test";

import { assert as fcAssert, property, string } from "fast-check";

import { BODY_BYTES_MAX, parseBody } from "./json-body.ts";
import { ArmError } from "./arm-error.ts";
import { pathSegments } from "./arm-path.ts";
import { parseFilter } from "./filter.ts";
import { type RootRoute, Router } from "./router.ts";

const route = (path: string): RootRoute => ({
  method: "GET",
  path,
  action: "x",
  summary: path,
  readRoot: () => Promise.resolve({ status: 200 }),
});

test("literals match in any case and win, names keep their case and may hold a slash", () => {
  const router = new Router([
    route("/a/{name}"),
    route("/a/default"),
    route("/a/{name}/b/{other}"),
  ]);
  const found = (path: string): unknown => {
    const { route: matched, parameters } = router.match("GET", pathSegments(path));
    return [matched.summary, parameters];
  };
  assert.deepEqual(found("/A/DEFAULT"), ["/a/default", {}]);
  assert.deepEqual(found("/A/My%20pol%2Fx/"), ["/a/{name}", { name: "My pol/x" }]);
  assert.deepEqual(found("/a/default/B/o"), [
    "/a/{name}/b/{other}",
    { name: "default", other: "o" },
  ]);
  for (const path of ["/", "/a", "/a/b/c", "/x"])
    assert.throws(() => found(path), { armCode: "InvalidResourceType", status: 404 });
  assert.throws(() => router.match("PUT", ["a", "b"]), { status: 405 });
});

test("paths, bodies and filters from outside are read or refused with 400", () => {
  const isRefusal = (error: unknown): boolean => error instanceof ArmError && error.status === 400;
  const readOrRefused = (read: () => void): boolean => {
    try {
      read();
      return true;
    } catch (error) {
      return isRefusal(error);
    }
  };
  fcAssert(
    property(string({ unit: "binary" }), (text) => {
      assert.ok(readOrRefused(() => pathSegments(`/${text}`)));
      assert.ok(readOrRefused(() => parseFilter(text, ["a"])));
      assert.ok(readOrRefused(() => parseBody(Buffer.from(text))));
    }),
  );
  assert.throws(() => parseBody(Buffer.from('{"a":["\\u0000"]}')), { status: 400 });
  assert.throws(() => parseBody(Buffer.from('{"a\\ud800":1}')), { status: 400 });
  assert.throws(() => parseBody(Buffer.alloc(BODY_BYTES_MAX / 2, "[")), { status: 400 });
  const deep = "[".repeat(BODY_BYTES_MAX / 2) + "]".repeat(BODY_BYTES_MAX / 2);
  assert.throws(() => parseBody(Buffer.from(deep)), { status: 400 });
});

test("filters are terms joined by and", () => {
  assert.deepEqual(
    parseFilter("StartTime eq '2017-09-19T00:00:00Z' and State eq 'It''s'", ["starttime", "state"]),
    [
      { field: "starttime", operator: "eq", value: "2017-09-19T00:00:00Z" },
      { field: "state", operator: "eq", value: "It's" },
    ],
  );
  assert.throws(() => parseFilter("other eq 'a'", ["state"]), { status: 400 });
});
