import assert from "node:assert/strict";
import { test } from "node:test";

import { hasCode } from "@osr/base/errors";

import { type Context, contextNamed, parseContexts, withContext, withCurrent } from "./contexts.ts";
import { MANAGEMENT_ERRORS } from "./management-errors.ts";

const context = (name: string): Context => ({
  name,
  vaultUrl: `https://${name}.example:8443`,
  tokenFile: "token",
  subscription: "s",
  resourceGroup: "rg",
  vault: "v",
});

test("the first context becomes the current one, and another can be chosen", () => {
  const both = withContext(withContext({ contexts: [] }, context("a")), context("b"));
  assert.equal(contextNamed(both, undefined).name, "a");
  assert.equal(contextNamed(both, "b").name, "b");
  assert.equal(contextNamed(withCurrent(both, "b"), undefined).name, "b");
});

test("a context of the same name is replaced", () => {
  const changed = { ...context("a"), vault: "other" };
  const contexts = withContext(withContext({ contexts: [] }, context("a")), changed);
  assert.deepEqual(contexts, { current: "a", contexts: [changed] });
});

test("an unknown context is refused, and what there is is named", () => {
  const contexts = withContext({ contexts: [] }, context("a"));
  const isUnknown = (error: unknown): boolean => hasCode(error, MANAGEMENT_ERRORS.CONTEXT_UNKNOWN);
  assert.throws(() => contextNamed(contexts, "x"), /no context x \(known: a\)/);
  assert.throws(() => contextNamed({ contexts: [] }, undefined), isUnknown);
  assert.throws(() => withCurrent(contexts, "x"), isUnknown);
});

test("the file is read as it was written, and refused where it is not one of ours", () => {
  const contexts = withContext({ contexts: [] }, context("a"));
  assert.deepEqual(parseContexts(JSON.stringify(contexts)), contexts);
  assert.throws(() => parseContexts('{"contexts":[{"name":1}]}'), /contexts\[0\]\.name/);
  assert.throws(() => parseContexts("not json"), /not JSON/);
});
