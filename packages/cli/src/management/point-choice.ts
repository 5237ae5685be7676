import type { RecoveryPoint } from "@azure/arm-recoveryservices-siterecovery";

import { OsrError } from "@osr/base/errors";

import { MANAGEMENT_ERRORS } from "./management-errors.ts";
import type { Management } from "./management.ts";
import { type ItemPlace, itemNamed } from "./places.ts";
import { pointDetails } from "./provider-details.ts";
import { listed } from "./requests.ts";

const APP_CONSISTENT = "AppConsistent";

/**
 * The ARM id of the recovery point that `choice` means, or an empty text for `latest`: the vault then takes the newest that the
 * logs prove. Throws NAME_UNKNOWN.
 */
export async function recoveryPointIdOf(
  management: Management,
  item: string,
  choice: string,
): Promise<string> {
  if (choice === "latest") return "";
  const points = await recoveryPoints(management, await itemNamed(management, item));
  if (choice === "latest-processed") return idOf(points[0], choice);
  if (choice === "latest-app-consistent")
    return idOf(
      points.find((point) => kindOf(point) === APP_CONSISTENT),
      choice,
    );
  return idOf(
    points.find(({ name, id }) => [name, id].includes(choice)),
    choice,
  );
}

/** The recovery points of an item, newest first. */
export async function recoveryPoints(
  management: Management,
  place: ItemPlace,
): Promise<readonly RecoveryPoint[]> {
  const { siteRecovery, vault, resourceGroup } = management;
  const points = await listed(
    siteRecovery.recoveryPoints.listByReplicationProtectedItems(
      vault,
      resourceGroup,
      place.fabric,
      place.container,
      place.name,
    ),
  );
  const ms = ({ properties }: RecoveryPoint): number =>
    properties?.recoveryPointTime?.getTime() ?? 0;
  return points.toSorted((a, b) => ms(b) - ms(a));
}

/** CrashConsistent or AppConsistent. */
export function kindOf(point: RecoveryPoint): string {
  return point.properties?.recoveryPointType ?? "";
}

export function isShared(point: RecoveryPoint): boolean {
  return pointDetails(point)?.isMultiVmSyncPoint?.toLowerCase() === "true";
}

function idOf(point: RecoveryPoint | undefined, choice: string): string {
  if (point?.id === undefined)
    throw new OsrError(MANAGEMENT_ERRORS.NAME_UNKNOWN, `there is no recovery point: ${choice}`);
  return point.id;
}
