import type { Clock } from "@osr/base/clock";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import { ArmError } from "../arm/arm-error.ts";
import type { VaultTransaction } from "../database/database.ts";

/**
 * Roles as Azure has them: actions with `*`. Contributor does everything but give rights away; Operator fails over and back, but neither enables nor
 * disables replication nor changes the vault; Reader reads.
 */
const ROLES = {
  Owner: ["*"],
  "Site Recovery Contributor": ["Microsoft.RecoveryServices/*", "OpenSiteRecovery/*"],
  "Site Recovery Operator": [
    "*/read",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/checkConsistency/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/reassociateGateway/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/renewCertificate/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationRecoveryServicesProviders/refreshProvider/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems/*/action",
    "Microsoft.RecoveryServices/vaults/replicationRecoveryPlans/*/action",
    "Microsoft.RecoveryServices/vaults/replicationJobs/*/action",
    "Microsoft.RecoveryServices/vaults/replicationVaultHealth/refresh/action",
  ],
  "Site Recovery Reader": ["*/read"],
} as const satisfies Record<string, readonly string[]>;

/** What a role does not allow although one of its actions would. */
const REFUSED: Partial<Record<keyof typeof ROLES, readonly string[]>> = {
  "Site Recovery Operator": [
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems/remove/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems/addDisks/action",
    "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems/removeDisks/action",
  ],
};

export type RoleName = keyof typeof ROLES;
export const ROLE_NAMES = Object.keys(ROLES) as readonly RoleName[];

/** Actions at or below a scope (a lower-case path; "/" is everything). */
export type Grant = { readonly role: RoleName; readonly scope: string };

/** Assigns a role; once is as good as twice. */
export async function assignRole(
  tx: VaultTransaction,
  assignment: { readonly tokenId: Uuid; readonly role: RoleName; readonly scope: string },
  ports: { readonly clock: Clock; readonly randomness: Randomness },
): Promise<void> {
  await tx
    .insertInto("role_assignment")
    .values({
      id: randomUuid(ports.randomness),
      token_id: assignment.tokenId,
      role: assignment.role,
      scope: normalScope(assignment.scope),
      created_at: ports.clock.unixMs(),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Roles that this version knows, with their scopes. */
export function grantsOf(
  assignments: readonly { readonly role: string | null; readonly scope: string | null }[],
): readonly Grant[] {
  return assignments.flatMap(({ role, scope }) => {
    const known = ROLE_NAMES.find((name) => name === role);
    return known === undefined || scope === null ? [] : [{ role: known, scope }];
  });
}

/** Throws ArmError 403 unless one of the grants allows `action` on `path`. */
export function authorize(
  caller: { readonly name: string; readonly grants: readonly Grant[] },
  action: string,
  path: string,
): void {
  const asked = normalScope(path);
  const isAllowed = caller.grants.some(
    ({ role, scope }) =>
      covers(scope, asked) &&
      ROLES[role].some((pattern) => matches(pattern, action)) &&
      REFUSED[role]?.some((pattern) => matches(pattern, action)) !== true,
  );
  if (!isAllowed)
    throw new ArmError(
      403,
      "AuthorizationFailed",
      `'${caller.name}' may not perform '${action}' on '${path}'`,
      "Ask an owner for a role at this scope (osr role assign).",
    );
}

function normalScope(path: string): string {
  const lower = path.toLowerCase().replace(/\/+$/, "");
  return lower === "" ? "/" : lower;
}

function covers(scope: string, path: string): boolean {
  return scope === "/" || path === scope || path.startsWith(`${scope}/`);
}

/** `*` stands for any text, slashes included. */
function matches(pattern: string, action: string): boolean {
  const expression = pattern
    .toLowerCase()
    .split("*")
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`))
    .join(".*");
  return new RegExp(`^${expression}$`).test(action.toLowerCase());
}
