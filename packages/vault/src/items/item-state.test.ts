import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { ArmError } from "../arm/arm-error.ts";
import {
  ENABLING,
  ITEM_OPERATIONS,
  ITEM_PHASES,
  type ItemOperation,
  type ItemState,
  allowedOperations,
  begun,
  failed,
  protectionState,
  succeeded,
  testState,
} from "./item-state.ts";

const PROTECTED: ItemState = {
  ...ENABLING,
  phase: "protected",
  before: "protected",
  hasPoint: true,
};
const WITH_JOB = ITEM_OPERATIONS.filter(
  (operation) => operation !== "Update" && operation !== "RepairReplication",
);

/** One job after another, some of which fail; what is not allowed is refused. Fencing happens within a failover. */
function walk(
  steps: readonly { operation: ItemOperation; works: boolean; fences: boolean }[],
): ItemState[] {
  const states = [PROTECTED];
  for (const { operation, works, fences } of steps) {
    const state = states.at(-1) ?? PROTECTED;
    if (state.phase === "disabling") break;
    if (!allowedOperations(state).includes(operation)) {
      assert.throws(
        () => begun(state, operation, "web01"),
        (error) => error instanceof ArmError && error.status === 409,
      );
      continue;
    }
    let running = begun(state, operation, "web01");
    if (operation === "UnplannedFailover" && fences) running = { ...running, isFenced: true };
    const after = works ? succeeded(running, operation) : failed(running, operation);
    states.push(running, after);
  }
  return states;
}

const steps = fc.array(
  fc.record({ operation: fc.constantFrom(...WITH_JOB), works: fc.boolean(), fences: fc.boolean() }),
  { maxLength: 30 },
);

test("whatever is asked and fails, nothing that is fenced counts as protected, and no job is thought to run for ever", () => {
  fc.assert(
    fc.property(steps, (taken) => {
      for (const state of walk(taken)) {
        if (state.phase === "protected") assert.equal(state.isFenced, false);
        if (state.phase === "failover-failed") assert.equal(state.isFenced, true);
      }
      const last = walk(taken).at(-1) ?? PROTECTED;
      const isGone = last.phase === "disabling";
      assert.ok(isGone || allowedOperations(last).length > 1, JSON.stringify(last));
    }),
    { seed: 4711, numRuns: 500 },
  );
});

test("a failover that was committed can't be taken back, and its point can't be changed", () => {
  const committed: ItemState = { ...PROTECTED, phase: "committed", isFenced: true };
  assert.deepEqual(allowedOperations(committed), ["DisableProtection", "Update"]);
});

test("a failover is possible while a test runs, a second test is not", () => {
  const testing: ItemState = { ...PROTECTED, test: "running" };
  const allowed = allowedOperations(testing);
  assert.ok(allowed.includes("UnplannedFailover"));
  assert.ok(allowed.includes("TestFailoverCleanup"));
  assert.ok(!allowed.includes("TestFailover"));
  assert.ok(!allowed.includes("DisableProtection"));
});

test("without a recovery point nothing can be started, and the refusal says so with what is allowed", () => {
  const fresh: ItemState = { ...PROTECTED, hasPoint: false };
  assert.throws(
    () => begun(fresh, "TestFailover", "web01"),
    (error) =>
      error instanceof ArmError &&
      error.message.includes("no recovery point") &&
      error.hint.includes("RepairReplication"),
  );
});

test("each phase has its own word, and each stage of replication too", () => {
  const words = ITEM_PHASES.map((phase) => protectionState({ ...PROTECTED, phase }, "delta").word);
  assert.equal(new Set(words).size, ITEM_PHASES.length);
  const stages = (["initial", "resync", "delta", "unknown"] as const).map(
    (stage) => protectionState(PROTECTED, stage).word,
  );
  assert.equal(new Set(stages).size, 4);
  assert.equal(testState("cleaning-up").word, "MarkedForDeletion");
});
