import { createHash } from "node:crypto";

import { canonicalJson } from "@osr/base/canonical-json";

const REVISION_BYTES = 6;

/**
 * A state with the revision that its content has: 48 bits of its hash. The same content has the same revision whoever makes
 * it, so that nobody does anything anew because the configuration server was started again or replaced.
 */
export function withRevision<State extends object>(
  state: State,
): State & { readonly revision: number } {
  const digest = createHash("sha256").update(canonicalJson(state)).digest();
  return { ...state, revision: digest.readUIntBE(0, REVISION_BYTES) + 1 };
}
