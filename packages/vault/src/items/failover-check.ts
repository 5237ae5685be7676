import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import type { JsonObject } from "@osr/base/json-value";
import type { ReplicaNetwork, ReplicaObjection } from "@osr/contracts/replica-host";

import { ArmError } from "../arm/arm-error.ts";
import type { VaultContext } from "../vault-context.ts";
import { type ItemHealth, healthErrorBody } from "./item-health.ts";
import { type ItemRow, stateOf, targetOf } from "./item-row.ts";
import { networkOf, replicaSpecOf } from "./replica-spec.ts";

/** What the last check of an item found. */
export type FailoverCheck = {
  readonly objections: readonly ReplicaObjection[];
  readonly checkedUnixMs: number;
};

const ERRORS = defineErrors({
  NETWORK_UNSET: {
    retryable: false,
    hint: "Choose a network for the item (osr item update --network).",
  },
});

const NETWORK_UNSET: ReplicaObjection = {
  code: ERRORS.NETWORK_UNSET.code,
  level: "warning",
  message:
    "No network of the recovery site is chosen: after a failover the machine has no network card.",
  hint: ERRORS.NETWORK_UNSET.hint,
};

/**
 * What would be in the way of failing the item over to its newest ready point, now: the network that it is set to, the
 * recovery point, and what the replica host lacks. Nothing is started or changed.
 */
export async function failoverObjections(
  context: Pick<VaultContext, "database" | "replicas">,
  row: ItemRow,
  signal: AbortSignal,
): Promise<readonly ReplicaObjection[]> {
  if (!stateOf(row).hasPoint) return [];
  const { network, objections } = await chosenNetwork(context, row);
  const point = { kind: "latest-processed" } as const;
  const spec = replicaSpecOf(row, { replicaId: row.id, point, network });
  try {
    return [...objections, ...(await context.replicas.preflight(spec, signal))];
  } catch (error) {
    if (!(error instanceof OsrError) || signal.aborted) throw error;
    return [...objections, asObjection(error)];
  }
}

async function chosenNetwork(
  { database }: Pick<VaultContext, "database">,
  row: ItemRow,
): Promise<{
  readonly network: ReplicaNetwork | undefined;
  readonly objections: readonly ReplicaObjection[];
}> {
  const { networkId } = targetOf(row);
  if (networkId === undefined) return { network: undefined, objections: [NETWORK_UNSET] };
  try {
    return { network: await networkOf(database, row.vault_id, networkId), objections: [] };
  } catch (error) {
    if (!(error instanceof ArmError)) throw error;
    return { network: undefined, objections: [asObjection(error)] };
  }
}

function asObjection(error: OsrError): ReplicaObjection {
  return { code: error.code, level: "error", message: messageOf(error), hint: error.hint };
}

/** ARM's failoverHealth. `None` where there is nothing to check, or nothing was checked yet. */
export function failoverHealthOf(check: FailoverCheck | undefined): ItemHealth {
  if (check === undefined) return "None";
  if (check.objections.some(({ level }) => level === "error")) return "Critical";
  return check.objections.length > 0 ? "Warning" : "Normal";
}

/** What was found, as ARM's HealthErrors. */
export function failoverErrorBodies(
  check: FailoverCheck | undefined,
  entityId: string,
): readonly JsonObject[] {
  return (check?.objections ?? []).map(({ code, level, message, hint }) =>
    healthErrorBody(
      {
        code,
        level: level === "error" ? "Error" : "Warning",
        message,
        causes: message,
        remedy: hint,
        category: "TestFailover",
      },
      check?.checkedUnixMs ?? 0,
      entityId,
    ),
  );
}
