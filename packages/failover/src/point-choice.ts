import { OsrError, hasCode } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import { indexRootOf } from "@osr/repository/key-schedule";
import { currentLog } from "@osr/repository/log-timeline";
import {
  TIMELINE_ROOT,
  parseObjectName,
  recoveryPointName,
  recoveryPointPrefix,
} from "@osr/repository/object-names";
import { STORE_ERRORS, listAll } from "@osr/repository/object-store";
import {
  RECOVERY_POINT_BYTES_MAX,
  type RecoveryPoint,
  decodeRecoveryPoint,
  recoveryPointOf,
} from "@osr/repository/recovery-point";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import { readSmallObject } from "@osr/repository/small-object";
import { type TaggedSegment, taggedSegments } from "@osr/repository/tagged-segments";

import { FAILOVER_ERRORS } from "./failover-errors.ts";
import type { FailoverPorts } from "./failover-ports.ts";

/**
 * Which recovery point, as in Azure Site Recovery:
 * - `latest`: the newest that the logs prove, also where its object has not been written yet;
 * - `latest-processed`: the newest that is there, ready to boot;
 * - `custom`: the one of a slot.
 */
export type PointChoice =
  | { readonly kind: "latest" | "latest-processed" }
  | { readonly kind: "custom"; readonly slot: number };

/** Points that are passed over, newest first, because they are fuzzy or not authentic. */
const POINTS_PASSED_OVER_MAX = 1000;

type ChoicePorts = Pick<FailoverPorts, "store" | "vaultId" | "keys" | "log">;

/**
 * The chosen recovery point of a replication group, its signature checked. Throws POINT_NONE, POINT_UNKNOWN, POINT_FUZZY,
 * POINT_INVALID.
 */
export async function choosePoint(
  groupId: Uuid,
  choice: PointChoice,
  ports: ChoicePorts,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  if (choice.kind === "custom") return await customPoint(groupId, choice.slot, ports, signal);
  const processed = await newestPoint(groupId, ports, signal);
  if (choice.kind === "latest-processed") return processed;
  return (await newestProvenPoint(processed, ports, signal)) ?? processed;
}

async function customPoint(
  groupId: Uuid,
  slot: number,
  ports: ChoicePorts,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  let point: RecoveryPoint;
  try {
    point = await readPoint(groupId, slot, ports, signal);
  } catch (cause) {
    if (!hasCode(cause, STORE_ERRORS.OBJECT_NOT_FOUND)) throw cause;
    const message = `group ${groupId} has no recovery point in slot ${slot}`;
    throw new OsrError(FAILOVER_ERRORS.POINT_UNKNOWN, message, { cause, details: { slot } });
  }
  if (point.class !== "fuzzy") return point;
  const message = `the point in slot ${slot} of group ${groupId} is fuzzy`;
  throw new OsrError(FAILOVER_ERRORS.POINT_FUZZY, message, { details: { slot } });
}

/** The newest authentic point that is an instant. */
async function newestPoint(
  groupId: Uuid,
  ports: ChoicePorts,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  const slots: number[] = [];
  const prefix = recoveryPointPrefix(ports.vaultId, groupId);
  for await (const { name } of listAll(ports.store, prefix, signal)) {
    const parsed = parseObjectName(ports.vaultId, name);
    if (parsed?.kind === "recovery-point") slots.push(parsed.slot);
  }
  for (const slot of slots.toReversed().slice(0, POINTS_PASSED_OVER_MAX)) {
    try {
      const point = await readPoint(groupId, slot, ports, signal);
      if (point.class !== "fuzzy") return point;
    } catch (error) {
      if (!hasCode(error, REPOSITORY_ERRORS.POINT_INVALID)) throw error;
      ports.log.warn("a recovery point is not authentic and is passed over", { slot, error });
    }
  }
  throw new OsrError(
    FAILOVER_ERRORS.POINT_NONE,
    `group ${groupId} has no recovery point that a machine may start from`,
    { details: { objects: slots.length } },
  );
}

async function readPoint(
  groupId: Uuid,
  slot: number,
  ports: ChoicePorts,
  signal: AbortSignal,
): Promise<RecoveryPoint> {
  const name = recoveryPointName(ports.vaultId, groupId, slot);
  const bytes = await readSmallObject(ports.store, name, RECOVERY_POINT_BYTES_MAX, signal);
  const point = decodeRecoveryPoint(bytes, ports.keys.groupKey(groupId));
  if (point.groupId === groupId && point.slot === slot) return point;
  throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, `${name} holds another point`);
}

/**
 * The newest point after `after` whose tag every member disk carries in its log. A recovery point is a pure function of
 * its tags, so that it counts from then on, even if nobody could write its object before the site was lost.
 */
async function newestProvenPoint(
  after: RecoveryPoint,
  ports: ChoicePorts,
  signal: AbortSignal,
): Promise<RecoveryPoint | undefined> {
  const timelines = new Map(after.disks.map(({ diskId, timeline }) => [diskId, timeline]));
  const proven = new Map<string, TaggedSegment[]>();
  const seen = new Set<Uuid>();
  let unseen: readonly Uuid[] = [...timelines.keys()];
  while (unseen.length > 0) {
    for (const diskId of unseen) {
      seen.add(diskId);
      const timeline = timelines.get(diskId) ?? TIMELINE_ROOT;
      const indexRoot = indexRootOf(await ports.keys.dataKey(diskId, signal));
      const known = { vaultId: ports.vaultId, diskId, timeline };
      const log = await currentLog(ports.store, known, { indexRoot, signal });
      for await (const tagged of taggedSegments(ports.store, log, { indexRoot, signal })) {
        const { tag } = tagged;
        if (tag.groupId === after.groupId && tag.slot <= after.slot) break;
        proven.set(tag.cutId, [...(proven.get(tag.cutId) ?? []), tagged]);
      }
    }
    // Disks that joined the group after that point.
    const members = [...proven.values()].flatMap((tags) => tags.flatMap(({ tag }) => tag.disks));
    unseen = [...new Set(members)].filter((diskId) => !seen.has(diskId));
  }
  const points = [...proven.values()].flatMap((tags) => provenPoint(after.groupId, tags, ports));
  return points.toSorted((a, b) => b.slot - a.slot)[0];
}

/** The point of one cut, where it is one and is complete. */
function provenPoint(
  groupId: Uuid,
  tags: readonly TaggedSegment[],
  ports: ChoicePorts,
): readonly RecoveryPoint[] {
  const tag = tags[0]?.tag;
  if (tag === undefined || tag.groupId !== groupId || tag.class === "fuzzy") return [];
  const positions = tags.map(({ position }) => position);
  const isComplete = tag.disks.every((id) => positions.some(({ diskId }) => diskId === id));
  if (!isComplete || positions.length !== tag.disks.length) return [];
  return [recoveryPointOf(tag, positions, ports.keys.groupKey(groupId))];
}
