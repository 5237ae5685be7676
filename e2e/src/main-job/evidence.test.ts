import assert from "node:assert/strict";
import { test } from "node:test";

import { type Evidence, objections } from "./evidence.ts";

const good: Evidence = {
  acknowledgedRows: 10,
  missingRows: 0,
  rowsAfterFailover: 12,
  amcheck: "clean",
  disks: [
    { name: "root", frozenSha256: "a", materialisedSha256: "a" },
    { name: "data", frozenSha256: "b", materialisedSha256: "b" },
  ],
  frozenMs: 1,
  heldMs: 1,
  bytesRead: 1,
  bytesSent: 1,
  bytesStored: 1,
  secondsToFirstAnswer: 1,
  sourceKeptRunning: true,
  totalSeconds: 1,
};

test("a run without fault has no objection", () => {
  assert.deepEqual(objections(good), []);
});

test("each thing that can go wrong is an objection", () => {
  const wrong: Partial<Evidence>[] = [
    { acknowledgedRows: 0 },
    { missingRows: 1 },
    { rowsAfterFailover: 9 },
    { amcheck: "" },
    { amcheck: "heap table corrupt" },
    { disks: [] },
    { disks: good.disks.map((disk) => ({ ...disk, materialisedSha256: "x" })) },
    { sourceKeptRunning: false },
  ];
  for (const change of wrong)
    assert.notDeepEqual(objections({ ...good, ...change }), [], JSON.stringify(change));
});
