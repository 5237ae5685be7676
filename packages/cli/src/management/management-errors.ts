import { defineErrors } from "@osr/base/errors";

export const MANAGEMENT_ERRORS = defineErrors({
  CONTEXT_UNKNOWN: {
    retryable: false,
    hint: "Make one with `osr context set NAME --vault-url URL --token-file FILE --subscription ID --resource-group NAME --vault NAME`, or choose one with `osr context use NAME`.",
  },
  REQUEST_REFUSED: {
    retryable: false,
    hint: "The message has the vault's own code and words; `osr item show` and `osr job show` tell what is allowed now.",
  },
  VAULT_UNREACHABLE: {
    retryable: true,
    hint: "Check the address and the authority of the context (`osr context list`) and that the vault runs (`/healthz`).",
  },
  NAME_UNKNOWN: {
    retryable: false,
    hint: "List what there is with the `list` verb of the same noun.",
  },
  NAME_AMBIGUOUS: {
    retryable: false,
    hint: "Use the full name that `list -o json` shows instead of the friendly name.",
  },
  JOB_FAILED: {
    retryable: false,
    hint: "`osr job show NAME` has the tasks, causes and recommended actions; `osr job restart NAME` tries again where it is allowed.",
  },
});
