import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, defineErrors } from "@osr/base/errors";
import {
  type Shape,
  integer,
  list,
  object,
  oneOf,
  optional,
  parseJson,
  uuidText,
} from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";

/**
 * Kind of a recovery point. `fuzzy` is a copy without a quiet window: recorded as what it is, never offered.
 */
export const TAG_CLASSES = ["crash", "app", "fuzzy"] as const;
export type TagClass = (typeof TAG_CLASSES)[number];

const ERRORS = defineErrors({
  INPUT_INVALID: { retryable: false, hint: "Correct the named field and send the request again." },
});

/** Seconds that one slot covers: recovery points of a group are at least this far apart. */
export const SLOT_SECONDS = 15;

/** Disks in one replication group. */
export const TAG_DISKS_MAX = 1024;

/**
 * The marker of a recovery point inside each disk's replication stream. Every member disk carries the same tag, so
 * that the recovery point is a pure function of the tags.
 */
export type Tag = {
  /** Replication group; a machine on its own is a group under its own id. */
  readonly groupId: Uuid;
  /** max(previous + 1, floor(unix seconds / 15)): grows even where the clock goes back. */
  readonly slot: number;
  /** Names the cut; two cuts never share one. */
  readonly cutId: Uuid;
  readonly class: TagClass;
  /** The machine's clock at the cut. For people; no rule depends on it. */
  readonly unixMs: number;
  /** Member disks, sorted. */
  readonly disks: readonly Uuid[];
  /** How large each of them is at the cut, in their order. Tags of agents before there was this field have none. */
  readonly diskBytes?: readonly number[] | undefined;
};

const fieldsShape: Shape<Tag> = object<Tag>({
  groupId: uuidText,
  slot: integer(0),
  cutId: uuidText,
  class: oneOf(...TAG_CLASSES),
  unixMs: integer(0),
  disks: list(uuidText, TAG_DISKS_MAX),
  diskBytes: optional(list(integer(512, DISK_BYTES_MAX), TAG_DISKS_MAX)),
});

export const tagShape: Shape<Tag> = (value, path) => {
  const tag = fieldsShape(value, path);
  const { disks, diskBytes = disks } = tag;
  if (diskBytes.length === disks.length) return tag;
  const message = `${path === "" ? "" : `${path}.`}diskBytes must have one size for each disk`;
  throw new OsrError(ERRORS.INPUT_INVALID, message);
};

export function encodeTag(tag: Tag): Buffer {
  return Buffer.from(canonicalJson(tag), "utf8");
}

/** Throws INPUT_INVALID. */
export function decodeTag(bytes: Uint8Array): Tag {
  return parseJson(Buffer.from(bytes).toString("utf8"), tagShape);
}

/** The slot of a cut at `unixMs` in a group whose newest slot is `previous` (-1 where there is none). */
export function nextSlot(previous: number, unixMs: number): number {
  return Math.max(previous + 1, Math.floor(unixMs / 1000 / SLOT_SECONDS));
}
