import { join } from "node:path";

import { type Uuid, isUuid } from "@osr/base/uuid";

/** Names in the spool: docs/formats/spool.md. */
export type SegmentPaths = { readonly seg: string; readonly jnl: string };

/** One future segment, as its file names tell. */
export type SegmentName = { readonly seq: number; readonly objectId: Uuid };

const SEGMENT_FILE = /^([0-9a-f]{16})-([0-9a-f-]{36})\.(seg|jnl)$/;

export function diskFolder(spoolFolder: string, diskId: Uuid, timeline: number): string {
  return join(spoolFolder, diskId, `t${timeline}`);
}

export function ownerFile(folder: string): string {
  return join(folder, "owner.json");
}

export function lastRecordFile(folder: string): string {
  return join(folder, "last-record.json");
}

export function sessionsFolder(spoolFolder: string): string {
  return join(spoolFolder, "sessions");
}

export function sessionFile(spoolFolder: string, machineId: Uuid): string {
  return join(sessionsFolder(spoolFolder), `${machineId}.json`);
}

export function pendingPointsFolder(spoolFolder: string): string {
  return join(spoolFolder, "points");
}

export function segmentPaths(folder: string, { seq, objectId }: SegmentName): SegmentPaths {
  const stem = join(folder, `${seq.toString(16).padStart(16, "0")}-${objectId}`);
  return { seg: `${stem}.seg`, jnl: `${stem}.jnl` };
}

/** Undefined for names that are not ours. */
export function parseSegmentFile(name: string): SegmentName | undefined {
  const [, seqHex, objectId] = SEGMENT_FILE.exec(name) ?? [];
  const seq = Number.parseInt(seqHex ?? "", 16);
  return isUuid(objectId) && Number.isSafeInteger(seq) && seq > 0 ? { seq, objectId } : undefined;
}
