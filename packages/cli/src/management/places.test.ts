import assert from "node:assert/strict";
import { test } from "node:test";

import { hasCode } from "@osr/base/errors";

import { nameIn } from "./arm-id.ts";
import { MANAGEMENT_ERRORS } from "./management-errors.ts";
import { meant } from "./places.ts";

const web = { name: "id-1", properties: { friendlyName: "web01" } };
const twins = [
  { name: "id-2", properties: { friendlyName: "db" } },
  { name: "id-3", properties: { friendlyName: "db" } },
];

test("a name wins over a friendly name, whatever the case", () => {
  assert.equal(meant([web, ...twins], "WEB01", "machine"), web);
  const misleading = { name: "web01", properties: { friendlyName: "id-1" } };
  assert.equal(meant([web, misleading], "id-1", "machine"), web);
});

test("nobody guesses which of two is meant", () => {
  const coded = (info: Parameters<typeof hasCode>[1]) => (error: unknown) => hasCode(error, info);
  assert.throws(() => meant(twins, "db", "machine"), coded(MANAGEMENT_ERRORS.NAME_AMBIGUOUS));
  assert.throws(() => meant(twins, "x", "machine"), coded(MANAGEMENT_ERRORS.NAME_UNKNOWN));
});

test("names are found in ARM ids", () => {
  const id = "/Subscriptions/s/vaults/v/replicationFabrics/site%20a/replicationProtectedItems/i";
  assert.equal(nameIn(id, "replicationfabrics"), "site a");
  assert.equal(nameIn(id, "replicationProtectedItems"), "i");
  assert.equal(nameIn(id, "replicationPolicies"), undefined);
  assert.equal(nameIn(undefined, "replicationPolicies"), undefined);
});
