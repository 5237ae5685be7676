import { defineErrors } from "@osr/base/errors";

export const FAILOVER_ERRORS = defineErrors({
  POINT_NONE: {
    retryable: false,
    hint: "Wait until the initial replication has finished and the first recovery point is made; `osr repository points` lists them.",
  },
  POINT_UNKNOWN: {
    retryable: false,
    hint: "Choose one of the slots that `osr repository points` lists.",
  },
  POINT_FUZZY: {
    retryable: false,
    hint: "The point was copied without a quiet window: a machine would start from it and may be silently corrupt. Choose another one.",
  },
  FAILOVER_REFUSED: {
    retryable: false,
    hint: "Remove the reasons that are listed, then start the failover again.",
  },
  FAILOVER_TIMEOUT: {
    retryable: true,
    hint: "See in the log which step took so long, or allow more time. Everything was undone.",
  },
  REPLICA_FAILED: {
    retryable: false,
    hint: "Read the console of the machine: start the failover again without waiting for an answer.",
  },
  REPLICA_SILENT: {
    retryable: false,
    hint: "Check address and port, or allow more time; start the failover again without waiting for an answer to read the console.",
  },
  REPLICA_STATE_INVALID: {
    retryable: false,
    hint: "The state file of a failed-over machine is damaged. Move its folder away, and destroy the machine by its id.",
  },
});
