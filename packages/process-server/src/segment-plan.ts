import type { Uuid } from "@osr/base/uuid";
import type { FrameOrigin } from "@osr/repository/frame";
import { type DataKey, frameKeyOf, indexKeyOf } from "@osr/repository/key-schedule";
import { OBJECT_KINDS, type ObjectHeader } from "@osr/repository/object-header";
import type { LogId } from "@osr/repository/object-names";

/** What all segments of one disk share. */
export type SegmentKeys = {
  readonly log: LogId;
  readonly dataKey: DataKey;
  readonly indexRoot: Buffer;
};

/** Everything about a future segment that is known before it has any data. */
export type SegmentPlan = {
  readonly header: ObjectHeader;
  readonly origin: FrameOrigin;
  readonly frameKey: Buffer;
  readonly indexKey: Buffer;
};

/** `objectId`: fresh, so that no nonce is ever used twice under a key. */
export function planSegment(
  keys: SegmentKeys,
  place: {
    readonly seq: number;
    readonly generation: number;
    readonly objectId: Uuid;
    readonly createdUnixMs: number;
  },
): SegmentPlan {
  const header = {
    kind: OBJECT_KINDS.SEGMENT,
    ...keys.log,
    ...place,
    keyVersion: keys.dataKey.version,
  };
  return segmentPlanOf(keys, header);
}

/** The plan of a segment whose header was written before. */
export function segmentPlanOf(keys: SegmentKeys, header: ObjectHeader): SegmentPlan {
  const { objectId } = header;
  return {
    header,
    origin: { ...keys.log, objectId },
    frameKey: frameKeyOf(keys.dataKey, objectId),
    indexKey: indexKeyOf(keys.indexRoot, objectId),
  };
}
