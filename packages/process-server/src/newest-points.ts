import type { Uuid } from "@osr/base/uuid";
import { hasCode } from "@osr/base/errors";
import type { PointSummary } from "@osr/contracts/agent-protocol";
import { recoveryPointPrefix } from "@osr/repository/object-names";
import { type ObjectStore, listAll } from "@osr/repository/object-store";
import {
  RECOVERY_POINT_BYTES_MAX,
  type RecoveryPoint,
  decodeRecoveryPoint,
} from "@osr/repository/recovery-point";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import { readSmallObject } from "@osr/repository/small-object";

/** Points that are looked at in search of one that is offered: a machine whose last cuts were all fuzzy has none. */
const POINTS_READ_MAX = 32;

export type NewestPoints = {
  /** Of any class; -1 where there is none. */
  readonly slot: number;
  /** The newest one that is offered. */
  readonly offered?: RecoveryPoint;
};

/** The newest authentic recovery points of a group. Reads a few objects, however many points there are. */
export async function readNewestPoints(
  store: ObjectStore,
  group: { readonly vaultId: Uuid; readonly groupId: Uuid; readonly groupKey: Buffer },
  signal: AbortSignal,
): Promise<NewestPoints> {
  const names: string[] = [];
  const prefix = recoveryPointPrefix(group.vaultId, group.groupId);
  for await (const { name } of listAll(store, prefix, signal)) names.push(name);
  let slot = -1;
  for (const name of names.slice(-POINTS_READ_MAX).toReversed()) {
    const point = await readPoint(store, name, group.groupKey, signal);
    if (point === undefined) continue;
    slot = Math.max(slot, point.slot);
    if (point.class !== "fuzzy") return { slot, offered: point };
  }
  return { slot };
}

export function summaryOf(point: PointSummary): PointSummary {
  return { slot: point.slot, cutId: point.cutId, class: point.class, unixMs: point.unixMs };
}

async function readPoint(
  store: ObjectStore,
  name: string,
  groupKey: Buffer,
  signal: AbortSignal,
): Promise<RecoveryPoint | undefined> {
  try {
    const bytes = await readSmallObject(store, name, RECOVERY_POINT_BYTES_MAX, signal);
    return decodeRecoveryPoint(bytes, groupKey);
  } catch (error) {
    // A forged one must not stop the making of points.
    if (hasCode(error, REPOSITORY_ERRORS.POINT_INVALID)) return undefined;
    throw error;
  }
}
