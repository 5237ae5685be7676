import { type ErrorInfo, defineErrors } from "@osr/base/errors";

/** A command ran, and what it checked does not hold: exit code 3. */
export const NOT_HELD: ErrorInfo = defineErrors({
  CHECK_NOT_HELD: {
    retryable: false,
    hint: "Look at what is listed above; each finding names what it concerns.",
  },
}).CHECK_NOT_HELD;
