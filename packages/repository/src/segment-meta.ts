import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError } from "@osr/base/errors";
import {
  type Shape,
  integer,
  object,
  oneOf,
  optional,
  parseJson,
  text,
  uuidText,
} from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";
import { type Tag, tagShape } from "@osr/contracts/tag";

import { REPOSITORY_ERRORS } from "./repository-errors.ts";

/** Why a fence stands in a log: a process server claims it, hands it over, or the machine failed over. */
const FENCE_KINDS = ["claim", "handover", "failover"] as const;
type FenceKind = (typeof FENCE_KINDS)[number];

/** An Ed25519 public key and a signature, in hex. */
const GRANT_KEY_CHARS = 64;
const GRANT_CHARS = 128;

export type Fence = {
  readonly kind: FenceKind;
  readonly owner: Uuid;
  /** Of a `failover` fence, in hex: claims after it need a grant that this public key verifies. */
  readonly grantKey?: string;
  /** The signature of the grant that permitted this claim, in hex. */
  readonly grant?: string;
};

/** What a segment says about the state of its log: docs/formats/segment.md, `meta`. */
export type SegmentMeta = {
  /** Last session and interval in the log up to and with this segment; 0 where there is none. */
  readonly session: number;
  readonly interval: number;
  /** Highest interval that was ended; 0 where there is none. */
  readonly intervalEnded: number;
  /** Where the segment ends with one. */
  readonly tag?: Tag;
  /** Where the segment is a fence. */
  readonly fence?: Fence;
};

const fenceShape: Shape<Fence> = object<Fence>({
  kind: oneOf(...FENCE_KINDS),
  owner: uuidText,
  grantKey: optional(text(GRANT_KEY_CHARS)),
  grant: optional(text(GRANT_CHARS)),
});

const segmentMetaShape: Shape<SegmentMeta> = object<SegmentMeta>({
  session: integer(0),
  interval: integer(0),
  intervalEnded: integer(0),
  tag: optional(tagShape),
  fence: optional(fenceShape),
});

export function encodeSegmentMeta(meta: SegmentMeta): Buffer {
  return Buffer.from(canonicalJson(meta), "utf8");
}

/** Throws INDEX_DAMAGED. */
export function decodeSegmentMeta(bytes: Buffer): SegmentMeta {
  try {
    return parseJson(bytes.toString("utf8"), segmentMetaShape);
  } catch (cause) {
    throw new OsrError(REPOSITORY_ERRORS.INDEX_DAMAGED, "meta of the index is not valid", {
      cause,
    });
  }
}
