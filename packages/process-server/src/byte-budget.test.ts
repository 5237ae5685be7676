import assert from "node:assert/strict";
import { test } from "node:test";

import { ByteBudget } from "./byte-budget.ts";

const never = new AbortController().signal;

test("takers wait in line; the first is never overtaken", async () => {
  const budget = new ByteBudget(10);
  const first = await budget.take(8, never);
  const order: string[] = [];
  const large = budget.take(9, never).then((hold) => (order.push("large"), hold));
  const small = budget.take(1, never).then((hold) => (order.push("small"), hold));
  await Promise.resolve();
  assert.deepEqual(order, []);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const holds = await Promise.all([large, small]);
  assert.deepEqual(order, ["large", "small"]);
  assert.equal(budget.usedBytes, 10);
  for (const hold of holds) hold[Symbol.dispose]();
  assert.equal(budget.usedBytes, 0);
});

test("whoever gives up lets the next one through", async () => {
  const budget = new ByteBudget(10);
  using _ = await budget.take(8, never);
  const gone = new AbortController();
  const refused = assert.rejects(budget.take(10, gone.signal), /gone/);
  const next = budget.take(2, never);
  gone.abort(new Error("gone"));
  await refused;
  (await next)[Symbol.dispose]();
  assert.equal(budget.waiting, 0);
});
