import type { JsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";
import { certificateFacts } from "@osr/certificates/certificate-facts";

import { type ResourceRoute, type VaultRequest, accepted, ok } from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase } from "../database/database.ts";
import type { FabricItems, MachineSymptom, ProtectedMachine } from "../fabric/desired-items.ts";
import type { VaultContext } from "../vault-context.ts";
import { type Health, expiry, fabricErrors, healthErrorBody, worst } from "./fabric-body.ts";
import { fabricsOf } from "./fabric-row.ts";
import { resourceBody } from "./resource-body.ts";

const ACTION = "Microsoft.RecoveryServices/vaults/replicationVaultHealth";
const route = routesOf(ACTION);
const USAGES_ACTION = "Microsoft.RecoveryServices/vaults";

/** Machines that an issue of the vault's health names; each item tells of itself. */
const AFFECTED_MAX = 1000;
const CERTIFICATE_HINT =
  "The vault renews its own certificate; put a newer one in the place of one that was given to it. Files are read again twice a day.";

type Summary = {
  readonly machines: readonly ProtectedMachine[];
  readonly fabrics: readonly { readonly health: Health; readonly issues: readonly JsonObject[] }[];
};

/** Health of the whole vault and how much of it is used. `certificate`: what the vault serves with at the moment. */
export function vaultHealthRoutes(
  context: VaultContext,
  items: FabricItems,
  certificate: () => Promise<string>,
): ResourceRoute[] {
  const health = async (request: VaultRequest, database: VaultDatabase): Promise<JsonObject> => {
    const nowMs = context.clock.unixMs();
    const summary = await summaryOf(request.vault.id, database, items, nowMs);
    return healthBody(request, summary, certificateErrors(await certificate(), nowMs));
  };
  return [
    ...["V/replicationVaultHealth", "V/replicationVaultHealth/default"].map(
      (path): ResourceRoute => ({
        method: "GET",
        path,
        action: `${ACTION}/read`,
        summary: "Show the vault's health",
        read: async (request, database) => ok(await health(request, database)),
      }),
    ),
    route.act(
      "V/replicationVaultHealth/default",
      "refresh",
      "Look again for what would be in the way of failovers (all other health is always looked at when it is asked for)",
      async (request, tx) => {
        await tx
          .deleteFrom("failover_check")
          .where("item_id", "in", (items) =>
            items
              .selectFrom("protected_item")
              .select("id")
              .where("vault_id", "=", request.vault.id),
          )
          .execute();
        const jobId = await context.jobs.record(tx, {
          vaultId: request.vault.id,
          kind: "RefreshVaultHealth",
          friendlyName: "Refresh vault health",
          input: {},
          target: { id: request.vault.armId, name: request.vault.name, instanceType: "Vault" },
          resourcePath: request.resourcePath,
          activityId: request.activityId,
        });
        return accepted(jobId);
      },
    ),
    ...usageRoutes(context, items),
  ];
}

function usageRoutes(context: VaultContext, items: FabricItems): ResourceRoute[] {
  return [
    {
      method: "GET",
      path: "V/usages",
      action: `${USAGES_ACTION}/usages/read`,
      summary: "List usages of the vault",
      read: async (request, database) => {
        const { machines, fabrics } = await summaryOf(request.vault.id, database, items, 0);
        const value = [
          usage("ProtectedItems", machines.length),
          usage("RegisteredServers", fabrics.length),
        ];
        return ok({ value, nextLink: null });
      },
    },
    {
      method: "GET",
      path: "V/replicationUsages",
      action: `${USAGES_ACTION}/replicationUsages/read`,
      summary: "List replication usages of the vault",
      read: async (request, database) =>
        ok(await replicationUsages(request, database, items, context)),
    },
  ];
}

function certificateErrors(pem: string, nowMs: number): readonly JsonObject[] {
  const { untilUnixMs } = certificateFacts(pem);
  const errors = expiry(untilUnixMs, "of the vault", nowMs, CERTIFICATE_HINT);
  return errors.map((error) => healthErrorBody(error, nowMs));
}

async function summaryOf(
  vaultId: Uuid,
  database: VaultDatabase,
  items: FabricItems,
  nowMs: number,
): Promise<Summary> {
  const rows = await fabricsOf(database, vaultId);
  const machines: ProtectedMachine[] = [];
  for (const { id } of rows) machines.push(...(await items.protectedMachines(database, id)));
  const fabrics = rows.map((row) => {
    const errors = fabricErrors(row, nowMs);
    const issues = errors.map((error) => ({
      summaryCode: error.code,
      category: "FabricInfrastructure",
      severity: error.level,
      summaryMessage: error.message,
      affectedResourceType: "replicationFabrics",
      affectedResourceSubtype: "VMware",
      affectedResourceCorrelationIds: [row.id],
      error: healthErrorBody(error, nowMs),
    }));
    return { health: worst(errors), issues };
  });
  return { machines, fabrics };
}

function healthBody(
  request: VaultRequest,
  { machines, fabrics }: Summary,
  vaultErrors: readonly JsonObject[],
): JsonObject {
  const issues = fabrics.flatMap((fabric) => fabric.issues);
  const fabricHealth = {
    resourceCount: fabrics.length,
    issues,
    categorizedResourceCounts: counted(fabrics),
  };
  return {
    ...resourceBody(request.vault, ["replicationVaultHealth", "default"], {
      vaultErrors: [...vaultErrors],
      protectedItemsHealth: {
        resourceCount: machines.length,
        issues: itemIssues(machines),
        categorizedResourceCounts: counted(machines),
      },
      fabricsHealth: fabricHealth,
      containersHealth: { ...fabricHealth, issues: [] },
    }),
    name: request.vault.name,
  };
}

/** Current symptoms of all items: one for each code with all whom it concerns, the worst first and then what concerns most. */
function itemIssues(machines: readonly ProtectedMachine[]): readonly JsonObject[] {
  const byCode = new Map<string, { readonly symptom: MachineSymptom; readonly ids: Uuid[] }>();
  for (const { machineId, symptoms } of machines)
    for (const symptom of symptoms) {
      const known = byCode.get(symptom.code);
      if (known === undefined) byCode.set(symptom.code, { symptom, ids: [machineId] });
      else if (known.ids.at(-1) !== machineId) known.ids.push(machineId);
    }
  const rank = ({ level }: MachineSymptom): number => (level === "Error" ? 0 : 1);
  return [...byCode.values()]
    .toSorted((a, b) => rank(a.symptom) - rank(b.symptom) || b.ids.length - a.ids.length)
    .map(({ symptom, ids }) => ({
      summaryCode: symptom.code,
      category: "Replication",
      severity: symptom.level,
      summaryMessage: symptom.message,
      affectedResourceType: "replicationProtectedItems",
      affectedResourceSubtype: "InMageAzureV2",
      affectedResourceCorrelationIds: ids.slice(0, AFFECTED_MAX),
      error: symptom.error,
    }));
}

function counted(all: readonly { readonly health: Health }[]): JsonObject {
  const counts: Record<string, number> = {};
  for (const { health } of all) counts[health] = (counts[health] ?? 0) + 1;
  return counts;
}

function usage(name: string, currentValue: number): JsonObject {
  return {
    unit: "Count",
    quotaPeriod: null,
    nextResetTime: null,
    currentValue,
    limit: -1,
    name: { value: name, localizedValue: name },
  };
}

async function replicationUsages(
  request: VaultRequest,
  database: VaultDatabase,
  items: FabricItems,
  { clock }: VaultContext,
): Promise<JsonObject> {
  const vaultId = request.vault.id;
  const { machines, fabrics } = await summaryOf(vaultId, database, items, clock.unixMs());
  const jobs = await database
    .selectFrom("job")
    .select((row) => ["state", row.fn.countAll<number>().as("count")])
    .where("vault_id", "=", vaultId)
    .groupBy("state")
    .execute();
  const jobCount = (...states: string[]): number =>
    jobs.filter(({ state }) => states.includes(state)).reduce((sum, { count }) => sum + count, 0);
  const rows = async (table: "event" | "vault_document", collection?: string): Promise<number> => {
    let query = database
      .selectFrom(table)
      .select((row) => row.fn.countAll<number>().as("count"))
      .where("vault_id", "=", vaultId);
    if (collection !== undefined)
      query = query.where("collection" as never, "=", collection as never);
    return (await query.executeTakeFirstOrThrow()).count;
  };
  return {
    value: [
      {
        monitoringSummary: {
          unHealthyVmCount: machines.filter(({ health }) => health !== "Normal").length,
          unHealthyProviderCount: fabrics.filter(({ health }) => health !== "Normal").length,
          eventsCount: await rows("event"),
          deprecatedProviderCount: 0,
          supportedProviderCount: fabrics.length,
          unsupportedProviderCount: 0,
        },
        jobsSummary: {
          failedJobs: jobCount("Failed"),
          suspendedJobs: jobCount("Suspended"),
          inProgressJobs: jobCount("NotStarted", "InProgress", "Cancelling"),
        },
        protectedItemCount: machines.length,
        recoveryPlanCount: await rows("vault_document", "replicationrecoveryplans"),
        registeredServersCount: fabrics.length,
        recoveryServicesProviderAuthType: 1,
      },
    ],
    nextLink: null,
  };
}
