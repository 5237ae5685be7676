import type {
  Fabric,
  InMageAzureV2PolicyDetails,
  InMageAzureV2RecoveryPointDetails,
  InMageAzureV2ReplicationDetails,
  Policy,
  RecoveryPoint,
  ReplicationProtectedItem,
  VMwareDetails,
} from "@azure/arm-recoveryservices-siterecovery";

/*
 * The clients' unions hold their own base type, so that `instanceType` does not narrow them: this is the one place that
 * says which type it stands for.
 */

const FORWARD = "InMageAzureV2";

export function itemDetails(
  item: ReplicationProtectedItem,
): InMageAzureV2ReplicationDetails | undefined {
  const details = item.properties?.providerSpecificDetails;
  return details?.instanceType === FORWARD
    ? (details as InMageAzureV2ReplicationDetails)
    : undefined;
}

export function policyDetails(policy: Policy): InMageAzureV2PolicyDetails | undefined {
  const details = policy.properties?.providerSpecificDetails;
  return details?.instanceType === FORWARD ? (details as InMageAzureV2PolicyDetails) : undefined;
}

export function pointDetails(point: RecoveryPoint): InMageAzureV2RecoveryPointDetails | undefined {
  const details = point.properties?.providerSpecificDetails;
  return details?.instanceType === FORWARD
    ? (details as InMageAzureV2RecoveryPointDetails)
    : undefined;
}

export function fabricDetails(fabric: Fabric): VMwareDetails | undefined {
  const details = fabric.properties?.customDetails;
  return details?.instanceType === "VMware" ? (details as VMwareDetails) : undefined;
}
