import { uuidOfName } from "@osr/base/uuid";
import type { Tag } from "@osr/contracts/tag";

import type { DataKey } from "../key-schedule.ts";
import { OBJECT_KINDS, type ObjectHeader } from "../object-header.ts";
import type { SealedState } from "../sealed-state.ts";
import type { SegmentMeta } from "../segment-meta.ts";
import { testDescriptor } from "./log-fixture.ts";
import { seededRandomness } from "./seeded-randomness.ts";

/** What the golden bytes in interop/ hold. Neither these values nor the bytes ever change. */
export const GOLDEN_VAULT_KEY = Buffer.alloc(32, 1);
export const GOLDEN_NONCE = Buffer.alloc(12, 3);
const vaultId = uuidOfName("golden", "vault");
const diskId = uuidOfName("golden", "disk");
export const GOLDEN_LOG = { vaultId, diskId, timeline: 1 };
export const GOLDEN_GROUP_ID = uuidOfName("golden", "group");
const GOLDEN_OWNER = uuidOfName("golden", "owner");
export const GOLDEN_DATA_KEY: DataKey = { diskId, version: 1, bytes: Buffer.alloc(32, 2) };
export const GOLDEN_DISK_BYTES = 2 ** 31 + 4096 + 512;
export const GOLDEN_DESCRIPTOR = testDescriptor(
  diskId,
  uuidOfName("golden", "machine"),
  GOLDEN_DISK_BYTES,
);

export const GOLDEN_TAG: Tag = {
  groupId: GOLDEN_GROUP_ID,
  slot: 113_333_333,
  cutId: uuidOfName("golden", "cut"),
  class: "crash",
  unixMs: 1_700_000_000_000,
  disks: [diskId],
};

/** One block that does not shrink, and two that do. */
export const GOLDEN_NOISE = seededRandomness("golden").bytes(4096);
export const GOLDEN_TEXT = Buffer.alloc(8192, "Open Site Recovery ");
/** Where they are: the noise in block 5, the text in the last two blocks; 7 and 8 are zero. */
export const GOLDEN_NOISE_BLOCK = 5;
export const GOLDEN_TEXT_BLOCK = 2 ** 19;
export const GOLDEN_ZERO_BLOCK = 7;

export function goldenHeader(seq: number): ObjectHeader {
  return {
    kind: OBJECT_KINDS.SEGMENT,
    ...GOLDEN_LOG,
    generation: 1,
    seq,
    objectId: uuidOfName("golden", "object", String(seq)),
    keyVersion: 1,
    createdUnixMs: 1_700_000_000_000,
  };
}

export const GOLDEN_FENCE_META: SegmentMeta = {
  fence: { kind: "claim", owner: GOLDEN_OWNER },
  session: 0,
  interval: 0,
  intervalEnded: 0,
};
export const GOLDEN_META: SegmentMeta = {
  session: 1_700_000_000,
  interval: 4,
  intervalEnded: 4,
  tag: GOLDEN_TAG,
};

export const GOLDEN_SEALED: SealedState = {
  epoch: 2,
  writerId: uuidOfName("golden", "writer"),
  unixMs: 1_700_000_000_000,
  kind: "whole",
  previous: "",
  schema: 1,
  documents: [
    { kind: "policy", id: "p", seq: 7, value: { name: "p", retention_minutes: 1440 } },
    { kind: "policy", id: "q", seq: 9, value: null },
  ],
};
