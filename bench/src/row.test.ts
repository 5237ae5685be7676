import assert from "node:assert/strict";
import { test } from "node:test";

import {
  type Goal,
  INFORMATION,
  atLeastRivals,
  atMost,
  atMostRivals,
  below,
  everyMustHolds,
  moreThanRivals,
  rowOf,
} from "./row.ts";

function row(goal: Goal, ours: number, rivals: Record<string, number> = {}) {
  return rowOf("suite", { case: "c", metric: "m", unit: "s", ours, rivals, goal }, false);
}

const RESTIC = { restic: 10, borg: 4 };

for (const [name, goal, good, bad] of [
  ["at most a limit", atMost("must", 50, "at most 50"), 50, 50.1],
  ["below a limit", below("must", 5, "below 5"), 4.9, 5],
  ["at most a rival", atMostRivals("must", ["restic"], 1, "no more than restic"), 10, 10.1],
  ["at most all rivals", atMostRivals("must", ["restic", "borg"], 1, "all"), 4, 4.1],
  ["at least a share", atLeastRivals("must", ["restic"], 0.6, "60 %"), 6, 5.9],
  ["more than rivals", moreThanRivals("must", ["restic", "borg"], "more"), 10.1, 10],
] as const)
  test(`${name}: a planted bad number does not hold`, () => {
    assert.equal(row(goal, good, RESTIC).holds, true);
    assert.equal(row(goal, bad, RESTIC).holds, false);
    assert.equal(everyMustHolds([row(goal, good, RESTIC)]), true);
    assert.equal(everyMustHolds([row(goal, good, RESTIC), row(goal, bad, RESTIC)]), false);
  });

test("a number that was not measured never holds, ours or a rival's", () => {
  const goal = moreThanRivals("must", ["restic"], "more than restic");
  assert.equal(row(goal, 5, {}).holds, false);
  assert.equal(row(goal, 5, { restic: Number.NaN }).holds, false);
  assert.equal(row(goal, Number.NaN, { restic: 1 }).holds, false);
  assert.equal(row(atMost("must", 5, "at most 5"), Number.NaN).holds, false);
  assert.equal(row(moreThanRivals("must", [], "more than nobody"), 5).holds, false);
});

test("a missed aim is shown and breaks no must; without a must nothing was proved", () => {
  const aim = row(atMost("aim", 1, "at most 1"), 2);
  assert.equal(aim.holds, false);
  assert.equal(aim.goal, "aim: at most 1");
  const must = row(atMost("must", 1, "at most 1"), 1);
  assert.equal(everyMustHolds([aim, must]), true);
  assert.equal(everyMustHolds([aim]), false);
  assert.equal(row(INFORMATION, 7).goal, "information");
});

test("rows of a run with little data say so", () => {
  const measurement = { case: "c", metric: "m", unit: "s", ours: 1.00049, rivals: { a: 2 } };
  const small = rowOf("s", { ...measurement, goal: INFORMATION, runs: [1, 2] }, true);
  assert.deepEqual(small, {
    suite: "s",
    case: "c",
    metric: "m",
    unit: "s",
    ours: 1,
    rivals: { a: 2 },
    goal: "information",
    holds: true,
    runs: [1, 2],
    small: true,
  });
});
