import { object, optional, text } from "@osr/base/json-shape";

import { ArmError, notFound } from "../arm/arm-error.ts";
import { type ResourceRoute, ok } from "../arm/resource-routes.ts";
import type { AnyRoute, RootRoute } from "../arm/router.ts";

const RS = "Microsoft.RecoveryServices/vaults";
const F = "V/replicationFabrics/{fabricName}";
const C = `${F}/replicationProtectionContainers/{protectionContainerName}`;
const CLASSIFICATIONS = `${F}/replicationStorageClassifications`;

/** Collections of scenarios that are not ours (Hyper-V, Azure to Azure, migration): there is nothing in them. */
const EMPTY = [
  "V/replicationMigrationItems",
  `${C}/replicationMigrationItems`,
  "V/replicationProtectionIntents",
  "V/replicationStorageClassifications",
  "V/replicationStorageClassificationMappings",
  CLASSIFICATIONS,
  `${CLASSIFICATIONS}/{storageClassificationName}/replicationStorageClassificationMappings`,
  `${F}/replicationLogicalNetworks`,
  "V/replicationAppliances",
  "V/privateLinkResources",
];
const ABSENT = [
  `${C}/replicationMigrationItems/{migrationItemName}`,
  "V/replicationProtectionIntents/{intentObjectName}",
  `${CLASSIFICATIONS}/{storageClassificationName}`,
  `${F}/replicationLogicalNetworks/{logicalNetworkName}`,
  "V/privateLinkResources/{privateLinkResourceName}",
];
const PLAN = "V/replicationRecoveryPlans/{recoveryPlanName}";
/** Operations that clients know and that this vault does not do. */
const REFUSED = [
  ...["testFailover", "testFailoverCleanup", "plannedFailover", "unplannedFailover"].map(
    (verb) => `${PLAN}/${verb}`,
  ),
  ...["failoverCommit", "reProtect", "failoverCancel"].map((verb) => `${PLAN}/${verb}`),
  ...["renewCertificate", "migratetoaad"].map((verb) => `${F}/${verb}`),
  ...["remove", "switchprotection"].map((verb) => `${C}/${verb}`),
];

export function otherScenarioRoutes(): ResourceRoute[] {
  return [
    ...EMPTY.map((path): ResourceRoute => ({
      method: "GET",
      path,
      action: `${RS}/read`,
      summary: "List what this vault has none of",
      read: () => Promise.resolve(ok({ value: [], nextLink: null })),
    })),
    ...ABSENT.map((path): ResourceRoute => ({
      method: "GET",
      path,
      action: `${RS}/read`,
      summary: "Show what this vault has none of",
      read: () => Promise.reject(notFound("what was asked for")),
    })),
    ...REFUSED.map((path): ResourceRoute => ({
      method: "POST",
      path,
      action: `${RS}/${actionOf(path)}`,
      summary: "Refused by this vault",
      write: () => Promise.reject(notSupported()),
    })),
    {
      method: "GET",
      path: "V/replicationSupportedOperatingSystems",
      action: `${RS}/read`,
      summary: "Operating systems that can be protected",
      read: () =>
        Promise.resolve(
          ok({
            supportedOsList: [
              {
                instanceType: "InMageAzureV2",
                supportedOs: [{ osName: "Linux", osType: "Linux", supportedOsVersions: [] }],
              },
            ],
          }),
        ),
    },
  ];
}

/** Below the vault: `replicationRecoveryPlans/testFailover/action`. */
function actionOf(path: string): string {
  const words = path
    .split("/")
    .slice(1)
    .filter((part) => !part.startsWith("{"));
  return `${words.join("/")}/action`;
}

function notSupported(): ArmError {
  return new ArmError(
    409,
    "OperationNotSupported",
    "this vault does not offer the operation",
    "See the list of operations at /openapi.json.",
  );
}

const nameShape = object<{ name: string; type?: string | undefined }>({
  name: text(128),
  type: optional(text(256)),
});

/** What clients ask of the provider itself. `operations` lists what the router has. */
export function providerRoutes(operations: () => readonly AnyRoute[]): RootRoute[] {
  const listed = (): Promise<ReturnType<typeof ok>> =>
    Promise.resolve(
      ok({
        value: operations().map(({ action, summary }) => ({
          name: action,
          display: {
            provider: "Microsoft Recovery Services",
            operation: summary,
            description: summary,
          },
          origin: "user",
        })),
        nextLink: null,
      }),
    );
  const group = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}";
  const provider = "providers/Microsoft.RecoveryServices";
  return [
    ...[`/${provider}/operations`, `${group}/${provider}/operations`].map((path): RootRoute => ({
      method: "GET",
      path,
      action: `${RS}/read`,
      summary: "List operations",
      readRoot: listed,
    })),
    {
      method: "POST",
      path: `${group}/${provider}/locations/{location}/checkNameAvailability`,
      action: `${RS}/read`,
      summary: "Ask whether a vault's name is free",
      writeRoot: async (request, tx) => {
        const { name } = nameShape(request.body ?? null, "");
        const taken = await tx
          .selectFrom("vault")
          .select("id")
          .where((where) => where(where.fn("lower", ["name"]), "=", name.toLowerCase()))
          .executeTakeFirst();
        if (taken === undefined) return ok({ nameAvailable: true, reason: null, message: null });
        const message = `a vault has the name ${name} already`;
        return ok({ nameAvailable: false, reason: "AlreadyExists", message });
      },
    },
    {
      method: "POST",
      path: `/subscriptions/{subscriptionId}/${provider}/locations/{location}/capabilities`,
      action: `${RS}/read`,
      summary: "Ask what a location can do",
      writeRoot: () => Promise.resolve(ok({ type: RS, properties: { dnsZones: [] } })),
    },
  ];
}
