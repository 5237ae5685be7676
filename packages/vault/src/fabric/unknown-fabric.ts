import { OsrError } from "@osr/base/errors";

import { VAULT_ERRORS } from "../vault-errors.ts";

/** For a fabric that was removed, perhaps while its request was under way. */
export function unknownFabric(): OsrError {
  return new OsrError(VAULT_ERRORS.FABRIC_UNKNOWN, "the fabric is not registered with this vault");
}
