import { defineErrors } from "@osr/base/errors";

export const BENCH_ERRORS = defineErrors({
  BENCH_COMMAND_FAILED: {
    retryable: false,
    hint: "The end of the program's output is in the message.",
  },
  BENCH_TIMEOUT: {
    retryable: true,
    hint: "Run it again on a machine that has less to do.",
  },
  BENCH_UNSUPPORTED: {
    retryable: false,
    hint: "Run it as root on Debian, after `npm run setup`.",
  },
  BENCH_WRONG: {
    retryable: false,
    hint: "What was to be measured did not do its work, so its numbers are worth nothing: look into the cause first.",
  },
});
