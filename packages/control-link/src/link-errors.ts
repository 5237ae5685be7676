import { defineErrors } from "@osr/base/errors";

export const LINK_ERRORS = defineErrors({
  AUTHORITY_UNKNOWN: {
    retryable: false,
    hint: "Compare the fingerprint with `osr configuration-server show`, and the address: another server may have answered.",
  },
  IDENTITY_INVALID: {
    retryable: false,
    hint: "Enrol the role again; a token made for its id keeps its replicated data in use.",
  },
  REPLY_INVALID: {
    retryable: true,
    hint: "Compare the versions of both sides, and look for a proxy between them.",
  },
});
