import type { JsonObject } from "@osr/base/json-value";

import type { VaultRow } from "../arm/resource-routes.ts";

export const VAULT_TYPE = "Microsoft.RecoveryServices/vaults";

/** A resource below a vault, as replies show it. `path` alternates collections and names. */
export function resourceBody(
  vault: VaultRow,
  path: readonly string[],
  properties: JsonObject,
): JsonObject {
  const collections = path.filter((_, index) => index % 2 === 0);
  return {
    id: armIdOf(vault, path),
    name: path.at(-1) ?? "",
    type: [VAULT_TYPE, ...collections].join("/"),
    properties,
  };
}

export function armIdOf(vault: VaultRow, path: readonly string[]): string {
  return [vault.armId, ...path].join("/");
}
