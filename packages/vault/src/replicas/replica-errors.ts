import { defineErrors } from "@osr/base/errors";

export const REPLICA_ERRORS = defineErrors({
  LEASE_STALE: {
    retryable: false,
    hint: "A newer vault process has taken over; this one stops. Nothing was done.",
  },
  REPLICA_REFUSED: {
    retryable: false,
    hint: "The message names what is in the way; correct it and start the operation again.",
  },
});
