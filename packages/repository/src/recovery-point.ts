import { createHmac, timingSafeEqual } from "node:crypto";

import { assert } from "@osr/base/assert";
import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { TAG_CLASSES, TAG_DISKS_MAX, type Tag, type TagClass } from "@osr/contracts/tag";

import { mapBounded } from "./concurrency.ts";
import {
  groupPrefix,
  parseObjectName,
  recoveryPointName,
  recoveryPointPrefix,
} from "./object-names.ts";
import { type ObjectStore, STORE_ERRORS, bodyOf, listAll } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { parseCanonicalObject, readSmallObject } from "./small-object.ts";

/** A recovery point with all the disks that a group may have stays within this. */
export const RECOVERY_POINT_BYTES_MAX = 256 * KIB;
const POINT_READS_MAX = 16;
/** Forged points that are passed over in search of the newest slot. */
const FORGED_POINTS_MAX = 1000;

/** Where the tag of a disk is: at the end of segment `seq`. */
export type PointDisk = {
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly seq: number;
  /** Head of that segment, in hex. */
  readonly headSha256: string;
  /** As large as the disk was at the cut; absent in points of older agents, whose disks are as large as when they were enrolled. */
  readonly sizeBytes?: number | undefined;
};

/** One instant of all disks of a machine or group: docs/formats/recovery-point.md. */
export type RecoveryPoint = {
  readonly groupId: Uuid;
  readonly slot: number;
  readonly cutId: Uuid;
  readonly class: TagClass;
  readonly unixMs: number;
  /** Sorted by diskId. */
  readonly disks: readonly PointDisk[];
  /** HMAC-SHA256 under the group key, in hex. */
  readonly signature: string;
};

export type TagPosition = {
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly seq: number;
  readonly head: Buffer;
};

const pointShape: Shape<RecoveryPoint> = object<RecoveryPoint>({
  groupId: uuidText,
  slot: integer(0),
  cutId: uuidText,
  class: oneOf(...TAG_CLASSES),
  unixMs: integer(0),
  disks: list(
    object<PointDisk>({
      diskId: uuidText,
      timeline: integer(1, 2 ** 32 - 1),
      seq: integer(1),
      headSha256: sha256Text,
      sizeBytes: optional(integer(512, DISK_BYTES_MAX)),
    }),
    TAG_DISKS_MAX,
  ),
  signature: sha256Text,
});

/** The recovery point of a tag: a pure function of the tag and of where it is in the log of each of its disks. */
export function recoveryPointOf(
  tag: Tag,
  positions: readonly TagPosition[],
  groupKey: Buffer,
): RecoveryPoint {
  const disks: readonly PointDisk[] = positions
    .map(({ diskId, timeline, seq, head }) => {
      const headSha256 = head.toString("hex");
      const sizeBytes = tag.diskBytes?.[tag.disks.indexOf(diskId)];
      const place = { diskId, timeline, seq, headSha256 };
      return sizeBytes === undefined ? place : { ...place, sizeBytes };
    })
    .toSorted((a, b) => (a.diskId < b.diskId ? -1 : 1));
  const members = tag.disks.toSorted();
  assert(
    disks.length > 0 &&
      disks.length === members.length &&
      disks.every(({ diskId }, i) => diskId === members[i]),
    "a recovery point has a position for each disk of its tag",
  );
  const { groupId, slot, cutId, unixMs } = tag;
  const fields = { format: 1, groupId, slot, cutId, class: tag.class, unixMs, disks };
  const { format: _, ...point } = fields;
  return { ...point, signature: signatureOf(fields, groupKey) };
}

export function encodeRecoveryPoint(point: RecoveryPoint): Buffer {
  return Buffer.from(canonicalJson({ format: 1, ...point }), "utf8");
}

/**
 * A recovery point from its bytes. With `groupKey` its signature is checked too. Throws POINT_INVALID, FORMAT_NEWER.
 */
export function decodeRecoveryPoint(bytes: Buffer, groupKey?: Buffer): RecoveryPoint {
  const fields = parseCanonicalObject(bytes, REPOSITORY_ERRORS.POINT_INVALID);
  let point: RecoveryPoint;
  try {
    point = pointShape(fields, "");
  } catch (cause) {
    throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, messageOf(cause), { cause });
  }
  const isSorted = point.disks.every(
    ({ diskId }, i) => i === 0 || diskId > (point.disks[i - 1]?.diskId ?? ""),
  );
  if (point.disks.length === 0 || !isSorted)
    throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, "its disks are not a sorted set");
  if (groupKey !== undefined) {
    // Over all fields that are there, so that later ones are covered too.
    const { signature: _, ...signed } = fields;
    const expected = Buffer.from(signatureOf(signed, groupKey), "hex");
    if (!timingSafeEqual(expected, Buffer.from(point.signature, "hex")))
      throw new OsrError(
        REPOSITORY_ERRORS.POINT_INVALID,
        `the signature of point ${point.slot} of group ${point.groupId} is not valid`,
      );
  }
  return point;
}

/** True where `point` was signed with `groupKey`. */
export function checkSignature(point: RecoveryPoint, groupKey: Buffer): boolean {
  const { signature, ...signed } = point;
  const expected = Buffer.from(signatureOf({ format: 1, ...signed }, groupKey), "hex");
  const given = Buffer.from(signature, "hex");
  return given.length === expected.length && timingSafeEqual(expected, given);
}

/**
 * Makes a recovery point visible: one create. Every disk's segment must have been committed before. The same point that
 * exists already is success. Throws SLOT_TAKEN where another cut has the slot, POINT_INVALID where the same cut is there
 * with other bytes.
 */
export async function createRecoveryPoint(
  store: ObjectStore,
  vaultId: Uuid,
  point: RecoveryPoint,
  signal?: AbortSignal,
): Promise<void> {
  const name = recoveryPointName(vaultId, point.groupId, point.slot);
  const bytes = encodeRecoveryPoint(point);
  try {
    await store.create(name, bodyOf(bytes), signal === undefined ? {} : { signal });
    return;
  } catch (error) {
    if (!hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) throw error;
  }
  const existing = await readSmallObject(store, name, RECOVERY_POINT_BYTES_MAX, signal);
  if (existing.equals(bytes)) return;
  const other = decodeRecoveryPoint(existing);
  if (other.cutId !== point.cutId)
    throw new OsrError(REPOSITORY_ERRORS.SLOT_TAKEN, `${name} belongs to cut ${other.cutId}`, {
      details: { slot: point.slot },
    });
  throw new OsrError(
    REPOSITORY_ERRORS.POINT_INVALID,
    `${name} is of cut ${point.cutId} but differs from what the logs prove`,
  );
}

/** Gives the key that signs the points of a group. */
export type GroupKeys = (groupId: Uuid) => Buffer;

export type PointList = {
  /** Oldest first in each group: signed, and an instant of all their disks. */
  readonly offered: readonly RecoveryPoint[];
  /** Signed, but copies without a quiet window: never to be used for a failover. */
  readonly fuzzy: readonly RecoveryPoint[];
  /** What is in the place of a point and is none. */
  readonly rejected: readonly { readonly name: string; readonly error: OsrError }[];
};

/** The recovery points of a group, or of all groups. */
export async function listRecoveryPoints(
  store: ObjectStore,
  options: {
    readonly vaultId: Uuid;
    readonly groupId?: Uuid;
    readonly groupKeys: GroupKeys;
    readonly signal?: AbortSignal;
  },
): Promise<PointList> {
  const { vaultId, groupId, groupKeys, signal } = options;
  const offered: RecoveryPoint[] = [];
  const fuzzy: RecoveryPoint[] = [];
  const rejected: { readonly name: string; readonly error: OsrError }[] = [];
  const names = await pointNames(store, vaultId, groupId, signal);
  const results = await mapBounded(names, POINT_READS_MAX, async (name) => {
    try {
      return await readRecoveryPoint(store, vaultId, name, groupKeys, signal);
    } catch (error) {
      if (!(error instanceof OsrError) || error.retryable) throw error;
      return { name, error };
    }
  });
  for (const result of results) {
    if ("error" in result) rejected.push(result);
    else (result.class === "fuzzy" ? fuzzy : offered).push(result);
  }
  return { offered, fuzzy, rejected };
}

/**
 * The newest slot of a group that has an authentic point, of any class; -1 where there is none. Forged objects do not count:
 * one at the highest slot would stop all later points.
 */
export async function newestSlot(
  store: ObjectStore,
  options: {
    readonly vaultId: Uuid;
    readonly groupId: Uuid;
    readonly groupKey: Buffer;
    readonly signal?: AbortSignal;
  },
): Promise<number> {
  const { vaultId, groupId, groupKey, signal } = options;
  const names = await pointNames(store, vaultId, groupId, signal);
  for (const name of names.toReversed().slice(0, FORGED_POINTS_MAX)) {
    try {
      return (await readRecoveryPoint(store, vaultId, name, () => groupKey, signal)).slot;
    } catch (error) {
      if (!hasCode(error, REPOSITORY_ERRORS.POINT_INVALID)) throw error;
    }
  }
  if (names.length <= FORGED_POINTS_MAX) return -1;
  throw new OsrError(
    REPOSITORY_ERRORS.POINT_INVALID,
    `the newest ${FORGED_POINTS_MAX} points of group ${groupId} are not authentic`,
  );
}

async function readRecoveryPoint(
  store: ObjectStore,
  vaultId: Uuid,
  name: string,
  groupKeys: GroupKeys,
  signal: AbortSignal | undefined,
): Promise<RecoveryPoint> {
  const parsed = parseObjectName(vaultId, name);
  if (parsed?.kind !== "recovery-point")
    throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, `${name} is not the name of a point`);
  const bytes = await readSmallObject(store, name, RECOVERY_POINT_BYTES_MAX, signal);
  const point = decodeRecoveryPoint(bytes, groupKeys(parsed.groupId));
  if (point.groupId !== parsed.groupId || point.slot !== parsed.slot)
    throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, `${name} holds another point`);
  return point;
}

async function pointNames(
  store: ObjectStore,
  vaultId: Uuid,
  groupId: Uuid | undefined,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const prefix =
    groupId === undefined ? groupPrefix(vaultId) : recoveryPointPrefix(vaultId, groupId);
  const names: string[] = [];
  for await (const { name } of listAll(store, prefix, signal)) names.push(name);
  return names;
}

function signatureOf(signed: Readonly<Record<string, unknown>>, groupKey: Buffer): string {
  return createHmac("sha256", groupKey).update(canonicalJson(signed)).digest("hex");
}

function sha256Text(value: unknown, path: string): string {
  const hex = text(64)(value, path);
  if (/^[0-9a-f]{64}$/.test(hex)) return hex;
  throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, `${path} must be a SHA-256 in hex`);
}
