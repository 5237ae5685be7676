import { createHmac, timingSafeEqual } from "node:crypto";

import { DISK_BYTES_MAX } from "@osr/base/block-range";
import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import {
  type Shape,
  boolean,
  integer,
  object,
  oneOf,
  optional,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { type MachineDescription, machineDescriptionShape } from "@osr/contracts/agent-protocol";

import { descriptorKeyOf } from "./key-schedule.ts";
import { type LogId, diskDescriptorName } from "./object-names.ts";
import { type ObjectStore, STORE_ERRORS, bodyOf } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { parseCanonicalObject, readSmallObject } from "./small-object.ts";

export const DESCRIPTOR_BYTES_MAX = 16 * KIB;

/**
 * Where a timeline branches off: after segment `seq` of `timeline`, 0 for what that one branches off itself. `tampering`:
 * the other timeline could not go on, this one is its continuation; `reprotect`: a failed-over machine goes on here.
 */
export type TimelineParent = {
  readonly timeline: number;
  readonly seq: number;
  readonly cause: "tampering" | "reprotect";
};

/** A disk and its machine as they were when it was enrolled: docs/formats/recovery-point.md. */
export type DiskDescriptor = {
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly machineId: Uuid;
  /** Stable identity within the machine. */
  readonly identity: string;
  /** Kernel name. For people. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly isBoot: boolean;
  readonly machine: MachineDescription;
  /** Absent for the root timeline. */
  readonly parent?: TimelineParent;
};

const descriptorShape: Shape<DiskDescriptor> = object<DiskDescriptor>({
  diskId: uuidText,
  timeline: integer(1, 2 ** 32 - 1),
  machineId: uuidText,
  identity: text(512),
  name: text(64),
  sizeBytes: integer(512, DISK_BYTES_MAX),
  isBoot: boolean,
  machine: machineDescriptionShape,
  parent: optional(
    object<TimelineParent>({
      timeline: integer(1, 2 ** 32 - 1),
      seq: integer(0),
      cause: oneOf("tampering", "reprotect"),
    }),
  ),
});

export function encodeDiskDescriptor(descriptor: DiskDescriptor, indexRoot: Buffer): Buffer {
  const fields = { format: 1, ...descriptor };
  return Buffer.from(
    canonicalJson({ ...fields, signature: signatureOf(fields, indexRoot).toString("hex") }),
    "utf8",
  );
}

/**
 * A descriptor from its bytes. With `indexRoot` its signature is checked too: the size of a disk decides what is read of
 * it. Throws DESCRIPTOR_INVALID, FORMAT_NEWER.
 */
export function decodeDiskDescriptor(bytes: Buffer, indexRoot?: Buffer): DiskDescriptor {
  const { signature, ...signed } = parseCanonicalObject(
    bytes,
    REPOSITORY_ERRORS.DESCRIPTOR_INVALID,
  );
  if (typeof signature !== "string" || !/^[0-9a-f]{64}$/.test(signature))
    throw new OsrError(REPOSITORY_ERRORS.DESCRIPTOR_INVALID, "signature is missing");
  if (
    indexRoot !== undefined &&
    !timingSafeEqual(signatureOf(signed, indexRoot), Buffer.from(signature, "hex"))
  )
    throw new OsrError(REPOSITORY_ERRORS.DESCRIPTOR_INVALID, "the signature is not valid");
  try {
    return descriptorShape(signed, "");
  } catch (cause) {
    throw new OsrError(REPOSITORY_ERRORS.DESCRIPTOR_INVALID, messageOf(cause), { cause });
  }
}

/** Throws OBJECT_NOT_FOUND, DESCRIPTOR_INVALID, OBJECT_MISPLACED, FORMAT_NEWER. */
export async function readDiskDescriptor(
  store: ObjectStore,
  log: LogId,
  indexRoot: Buffer,
  signal?: AbortSignal,
): Promise<DiskDescriptor> {
  const name = diskDescriptorName(log);
  const bytes = await readSmallObject(store, name, DESCRIPTOR_BYTES_MAX, signal);
  const descriptor = decodeDiskDescriptor(bytes, indexRoot);
  if (descriptor.diskId !== log.diskId || descriptor.timeline !== log.timeline)
    throw new OsrError(
      REPOSITORY_ERRORS.OBJECT_MISPLACED,
      `${name} is the descriptor of disk ${descriptor.diskId}, timeline ${descriptor.timeline}`,
    );
  return descriptor;
}

/** Creates the descriptor of a disk, or gives the one that is there: the first enrolment counts. */
export async function ensureDiskDescriptor(
  store: ObjectStore,
  vaultId: Uuid,
  descriptor: DiskDescriptor,
  options: { readonly indexRoot: Buffer; readonly signal?: AbortSignal | undefined },
): Promise<DiskDescriptor> {
  const { indexRoot, signal } = options;
  const log = { vaultId, diskId: descriptor.diskId, timeline: descriptor.timeline };
  const body = bodyOf(encodeDiskDescriptor(descriptor, indexRoot));
  try {
    await store.create(diskDescriptorName(log), body, signal === undefined ? {} : { signal });
  } catch (error) {
    if (!hasCode(error, STORE_ERRORS.OBJECT_EXISTS)) throw error;
  }
  return readDiskDescriptor(store, log, indexRoot, signal);
}

function signatureOf(signed: Readonly<Record<string, unknown>>, indexRoot: Buffer): Buffer {
  return createHmac("sha256", descriptorKeyOf(indexRoot)).update(canonicalJson(signed)).digest();
}
