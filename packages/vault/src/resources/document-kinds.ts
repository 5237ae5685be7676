import type { JsonObject, JsonValue } from "@osr/base/json-value";
import { jsonObject } from "@osr/base/json-value";

import { badRequest } from "../arm/arm-error.ts";
import type { DocumentKind } from "./documents.ts";

const RS = "Microsoft.RecoveryServices/vaults";
const FABRIC = "V/replicationFabrics/{fabricName}";
const TEXT_CHARS_MAX = 2048;
const ADDRESSES_MAX = 20;
const GROUPS_MAX = 20;
const GROUP_TYPES = ["Shutdown", "Failover", "Boot"];

/** Resources that are kept as they were written. */
export const DOCUMENT_KINDS: readonly DocumentKind[] = [
  {
    path: `${FABRIC}/replicationvCenters/{vcenterName}`,
    listPath: "V/replicationvCenters",
    action: `${RS}/replicationFabrics/replicationvCenters`,
    noun: "vCenter",
    jobs: { write: "AddVCenter", remove: "DeleteVCenter", targetType: "VCenter" },
    mayPatch: true,
    mayDelete: true,
    check(properties) {
      for (const field of [
        "friendlyName",
        "ipAddress",
        "processServerId",
        "port",
        "runAsAccountId",
      ])
        textField(properties, field, false);
    },
    // Discovery of its machines comes with VMware support; until then it says so.
    view: (properties) => ({ ...properties, discoveryStatus: "NotStarted", healthErrors: [] }),
  },
  {
    path: `${FABRIC}/replicationNetworks/{networkName}/replicationNetworkMappings/{networkMappingName}`,
    listPath: "V/replicationNetworkMappings",
    action: `${RS}/replicationFabrics/replicationNetworks/replicationNetworkMappings`,
    noun: "network mapping",
    jobs: { write: "CreateNetworkMapping", remove: "RemoveNetworkMapping", targetType: "Network" },
    mayPatch: true,
    mayDelete: true,
    check(properties) {
      textField(properties, "recoveryNetworkId", true);
      textField(properties, "recoveryFabricName", false);
    },
    view: (properties) => ({ ...properties, state: "Paired" }),
  },
  {
    path: "V/replicationRecoveryPlans/{recoveryPlanName}",
    action: `${RS}/replicationRecoveryPlans`,
    noun: "recovery plan",
    jobs: { write: "SaveRecoveryPlan", remove: "DeleteRecoveryPlan", targetType: "RecoveryPlan" },
    mayPatch: true,
    mayDelete: true,
    check(properties) {
      textField(properties, "primaryFabricId", true);
      textField(properties, "recoveryFabricId", true);
      for (const [index, group] of listField(properties, "groups", GROUPS_MAX).entries()) {
        const type = jsonObject(group)?.["groupType"];
        if (typeof type !== "string" || !GROUP_TYPES.includes(type))
          throw badRequest(
            `properties.groups[${index}].groupType`,
            `must be one of ${GROUP_TYPES.join(", ")}`,
          );
      }
    },
    view: (properties, name) => ({
      friendlyName: name,
      allowedOperations: [],
      currentScenario: { scenarioName: "None", jobId: null, startTime: null },
      currentScenarioStatus: "None",
      replicationProviders: ["InMageAzureV2"],
      providerSpecificDetails: [],
      ...properties,
    }),
  },
  {
    path: "V/replicationAlertSettings/{alertSettingName}",
    action: `${RS}/replicationAlertSettings`,
    noun: "alert setting",
    mayPatch: false,
    mayDelete: false,
    initial: {
      name: "defaultAlertSetting",
      properties: { sendToOwners: "DoNotSend", customEmailAddresses: [], locale: "en-US" },
    },
    check(properties) {
      textField(properties, "sendToOwners", false);
      textField(properties, "locale", false);
      if (properties["customEmailAddresses"] === undefined) return;
      for (const address of listField(properties, "customEmailAddresses", ADDRESSES_MAX))
        if (typeof address !== "string" || !/^[^@\s]{1,64}@[^@\s]{1,255}$/.test(address))
          throw badRequest("properties.customEmailAddresses", "must be mail addresses");
    },
    view: (properties) => properties,
  },
  {
    path: "V/replicationVaultSettings/{vaultSettingName}",
    action: `${RS}/replicationVaultSettings`,
    noun: "vault setting",
    mayPatch: false,
    mayDelete: false,
    initial: {
      name: "default",
      properties: { migrationSolutionId: null, vmwareToAzureProviderType: "VMwareToAzure" },
    },
    check(properties) {
      textField(properties, "migrationSolutionId", false);
      textField(properties, "vmwareToAzureProviderType", false);
    },
    view: (properties) => properties,
  },
];

function textField(properties: JsonObject, field: string, isRequired: boolean): void {
  const value = properties[field];
  if ((value === undefined || value === null) && !isRequired) return;
  if (typeof value !== "string" || value.length > TEXT_CHARS_MAX || (isRequired && value === ""))
    throw badRequest(`properties.${field}`, `must be text of at most ${TEXT_CHARS_MAX} characters`);
}

function listField(properties: JsonObject, field: string, itemsMax: number): readonly JsonValue[] {
  const value = properties[field];
  if (!Array.isArray(value) || value.length > itemsMax)
    throw badRequest(`properties.${field}`, `must be a list of at most ${itemsMax}`);
  return value as readonly JsonValue[];
}
