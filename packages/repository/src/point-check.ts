import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError } from "@osr/base/errors";
import type { Tag } from "@osr/contracts/tag";

import type { ParsedName } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";
import {
  type PointDisk,
  RECOVERY_POINT_BYTES_MAX,
  type RecoveryPoint,
  decodeRecoveryPoint,
} from "./recovery-point.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import type { CheckedSegment } from "./segment-check.ts";
import { readSmallObject } from "./small-object.ts";

export type PointCheckOptions = {
  readonly name: string;
  readonly parsed: Extract<ParsedName, { readonly kind: "recovery-point" }>;
  /** With it the signature is checked. */
  readonly groupKey: Buffer | undefined;
  /** The segment of a disk that ends with a tag, where it was read and is whole. */
  readonly segmentOf: (disk: PointDisk) => CheckedSegment | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Holds a recovery point against the logs: each of its disks has the segment that it names, and that ends with its tag. */
export async function checkPoint(store: ObjectStore, options: PointCheckOptions): Promise<void> {
  const { name, parsed, groupKey, segmentOf, signal } = options;
  const bytes = await readSmallObject(store, name, RECOVERY_POINT_BYTES_MAX, signal);
  const point = decodeRecoveryPoint(bytes, groupKey);
  if (point.groupId !== parsed.groupId || point.slot !== parsed.slot)
    invalid("it is the point of another group or slot");
  for (const disk of point.disks) {
    const segment = segmentOf(disk);
    const where = `segment ${disk.seq} of disk ${disk.diskId}`;
    if (segment === undefined)
      return invalid(`${where} is missing, unreadable, or does not end with a tag`);
    if (segment.head.toString("hex") !== disk.headSha256) invalid(`${where} has another head`);
    if (segment.footer.slot !== point.slot) invalid(`${where} ends with the tag of another slot`);
    if (segment.tag !== undefined && canonicalJson(segment.tag) !== canonicalJson(tagOf(point)))
      invalid(`${where} ends with another tag`);
  }
}

function tagOf(point: RecoveryPoint): Tag {
  const { groupId, slot, cutId, unixMs } = point;
  const diskBytes = point.disks.flatMap(({ sizeBytes }) => sizeBytes ?? []);
  return {
    groupId,
    slot,
    cutId,
    class: point.class,
    unixMs,
    disks: point.disks.map(({ diskId }) => diskId),
    ...(diskBytes.length === 0 ? {} : { diskBytes }),
  };
}

function invalid(message: string): never {
  throw new OsrError(REPOSITORY_ERRORS.POINT_INVALID, message);
}
