import assert from "node:assert/strict";
import { test } from "node:test";

import { messageOf } from "./errors.ts";

test("the cause of a failure is told before what failed while it was cleaned up", () => {
  const failing = (): void => {
    using cleanups = new DisposableStack();
    cleanups.defer(() => {
      throw new Error("the folder is busy");
    });
    cleanups.defer(() => {
      throw new Error("the mount is busy");
    });
    throw new Error("the disk is full");
  };
  assert.throws(failing, (error) => {
    assert.equal(
      messageOf(error),
      "the disk is full (and while cleaning up: the mount is busy (and while cleaning up: the folder is busy))",
    );
    return true;
  });
});
