import { OsrError, defineErrors } from "./errors.ts";

const ERRORS = defineErrors({
  INTERNAL_ASSERTION: {
    retryable: false,
    hint: "This is a defect of Open Site Recovery. Nothing was written. Please report the message and the log.",
  },
});

/** Stops where the program itself is wrong. Stays on in production: a wrong recovery point is worse than a crash. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new OsrError(ERRORS.INTERNAL_ASSERTION, message);
}

/** `value`, which must be there. */
export function must<T>(value: T | undefined | null, message: string): T {
  assert(value !== undefined && value !== null, message);
  return value;
}
