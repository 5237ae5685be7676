import assert from "node:assert/strict";
import { test } from "node:test";

import { hostNameOf, replicaNameOf } from "./machine-names.ts";

test("a machine has a name that a compute provider takes, whatever its people call it", () => {
  const names = ["web01", "Web server 1", "(none)", "db.example_1", "…", `${"x".repeat(62)}-y`];
  assert.deepEqual(names.map(replicaNameOf), [
    "web01",
    "Web-server-1",
    "none",
    "db.example_1",
    "machine",
    "x".repeat(62),
  ]);
});

test("a machine has a name that a DHCP server hands out", () => {
  const names = ["(none)", "-db-", "---", "a_b.example", `${"x".repeat(47)}-y`];
  assert.deepEqual(names.map(hostNameOf), ["none", "db", "machine", "a-b-example", "x".repeat(47)]);
});
