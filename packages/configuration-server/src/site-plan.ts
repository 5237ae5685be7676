import type { Uuid } from "@osr/base/uuid";
import type { DesiredFabric, DesiredItem } from "@osr/contracts/fabric-protocol";
import type { AgentSettings, GatewayAssignment } from "@osr/contracts/site-protocol";

import { withRevision } from "./revision.ts";

const POINT_INTERVAL_SECONDS_DEFAULT = 300;

/** True where an agent is to replicate: the vault wishes it, and has given its disks their ids and keys. */
export function isToReplicate(item: DesiredItem): boolean {
  return item.isProtected && item.grant.disks.length > 0;
}

/** What an agent is to do. */
export function agentSettings(
  item: DesiredItem | undefined,
  more: {
    readonly processServer?: AgentSettings["processServer"];
    readonly shutDownOrder?: Uuid | undefined;
  },
): AgentSettings {
  return withRevision({
    isProtected: item !== undefined && isToReplicate(item),
    ...(item?.stoppedReason === undefined ? {} : { stoppedReason: item.stoppedReason }),
    ...(more.processServer === undefined ? {} : { processServer: more.processServer }),
    excludedDisks: item?.excludedDisks ?? [],
    pointIntervalSeconds: item?.pointIntervalSeconds ?? POINT_INTERVAL_SECONDS_DEFAULT,
    appPointIntervalSeconds: item?.appPointIntervalSeconds ?? 0,
    resyncRequest: item?.resyncRequest ?? 0,
    ...(more.shutDownOrder === undefined ? {} : { shutDownOrder: more.shutDownOrder }),
  });
}

/** What a gateway is to do: it gets the keys of its own machines, of no others. */
export function gatewayAssignment(
  desired: DesiredFabric,
  isAssigned: (machineId: Uuid) => boolean,
  revokedPem: string | undefined,
): GatewayAssignment {
  const machines = desired.items
    .filter((item) => isToReplicate(item) && isAssigned(item.grant.machineId))
    .map(({ grant }) => grant);
  const { vaultId, storage } = desired;
  const revoked = revokedPem === undefined ? {} : { revokedPem };
  return withRevision({ vaultId, storage, machines, ...revoked });
}
