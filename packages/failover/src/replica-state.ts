import { mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { canonicalJson } from "@osr/base/canonical-json";
import { OsrError, systemErrorCode } from "@osr/base/errors";
import {
  type Shape,
  boolean,
  list,
  object,
  oneOf,
  optional,
  parseJson,
  text,
  uuidText,
} from "@osr/base/json-shape";
import { KIB } from "@osr/base/units";
import { type Uuid, isUuid } from "@osr/base/uuid";
import {
  type RecoveryPoint,
  decodeRecoveryPoint,
  encodeRecoveryPoint,
} from "@osr/repository/recovery-point";

import { FAILOVER_ERRORS } from "./failover-errors.ts";

const STATE_FILE = "failover.json";
const SOCKET_FILE = "nbd.sock";
/** A recovery point takes up to 256 KiB, twice in its text form here. */
const DISKS_MAX = 256;
const STATE_CHARS_MAX = 768 * KIB;

/**
 * What a successor process must know of a failed-over machine; no keys. It is written before anything else is made, so
 * that nothing is ever left that nobody knows of. `starting`: the failover has not succeeded, and a successor undoes it.
 */
export type ReplicaState = {
  readonly replicaId: Uuid;
  readonly machineId: Uuid;
  readonly name: string;
  readonly point: RecoveryPoint;
  readonly network: string | undefined;
  readonly diskNames: readonly string[];
  /** Whether its disks are to be moved to local storage behind the running machine. */
  readonly isMoving: boolean;
  readonly phase: "starting" | "running";
};

const stateShape: Shape<
  Omit<ReplicaState, "point" | "network"> & { point: string; network?: string | undefined }
> = object({
  replicaId: uuidText,
  machineId: uuidText,
  name: text(255),
  point: text(STATE_CHARS_MAX),
  network: optional(text(64)),
  diskNames: list(text(64), DISKS_MAX),
  isMoving: boolean,
  phase: oneOf("starting", "running"),
});

function replicaFolder(runDirectory: string, replicaId: Uuid): string {
  return join(runDirectory, replicaId);
}

export function replicaSocketPath(runDirectory: string, replicaId: Uuid): string {
  return join(replicaFolder(runDirectory, replicaId), SOCKET_FILE);
}

/** Replaces the state file of a machine at once: whoever reads it finds the old or the new one, whole. */
export async function writeReplicaState(runDirectory: string, state: ReplicaState): Promise<void> {
  const folder = replicaFolder(runDirectory, state.replicaId);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const fresh = join(folder, `${STATE_FILE}.new`);
  {
    await using file = await open(fresh, "w", 0o600);
    const point = encodeRecoveryPoint(state.point).toString("utf8");
    await file.writeFile(canonicalJson({ ...state, point }));
    await file.sync();
  }
  await rename(fresh, join(folder, STATE_FILE));
}

/**
 * The state of a machine; undefined where its failover was cut off before there was any. The point's signature is
 * checked. Throws REPLICA_STATE_INVALID, POINT_INVALID.
 */
export async function readReplicaState(
  runDirectory: string,
  replicaId: Uuid,
  groupKey: (groupId: Uuid) => Buffer,
): Promise<ReplicaState | undefined> {
  const path = join(replicaFolder(runDirectory, replicaId), STATE_FILE);
  let json: string;
  try {
    json = await readFile(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  const state = parseState(json, path);
  if (state.replicaId !== replicaId)
    throw new OsrError(
      FAILOVER_ERRORS.REPLICA_STATE_INVALID,
      `${path} is of machine ${state.replicaId}`,
    );
  const bytes = Buffer.from(state.point, "utf8");
  const { groupId } = decodeRecoveryPoint(bytes);
  return { ...state, point: decodeRecoveryPoint(bytes, groupKey(groupId)), network: state.network };
}

function parseState(json: string, path: string): ReturnType<typeof stateShape> {
  try {
    return parseJson(json, stateShape);
  } catch (cause) {
    throw new OsrError(FAILOVER_ERRORS.REPLICA_STATE_INVALID, `${path} cannot be read`, { cause });
  }
}

/** Machines that have a folder in the run directory. */
export async function listReplicas(runDirectory: string): Promise<readonly Uuid[]> {
  try {
    return (await readdir(runDirectory)).filter(isUuid);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
}

export async function removeReplicaFolder(runDirectory: string, replicaId: Uuid): Promise<void> {
  await rm(replicaFolder(runDirectory, replicaId), { recursive: true, force: true });
}
