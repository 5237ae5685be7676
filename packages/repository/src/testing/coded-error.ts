import assert from "node:assert/strict";

import { OsrError, type ErrorInfo } from "@osr/base/errors";

/** For assert.throws and assert.rejects: the error is ours and has one of these codes. */
export function coded(...infos: readonly ErrorInfo[]): (error: unknown) => true {
  return (error) => {
    if (!(error instanceof OsrError)) throw error;
    assert.ok(
      infos.some(({ code }) => code === error.code),
      `${error.code}: ${error.message}`,
    );
    return true;
  };
}

/** For fuzzing: whatever is thrown is an error of ours, and no defect. */
export function assertCoded(error: unknown): void {
  if (!(error instanceof OsrError)) throw error;
  assert.notEqual(error.code, "INTERNAL_ASSERTION", error.message);
}
