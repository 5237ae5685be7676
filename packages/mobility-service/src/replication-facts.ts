import type { Uuid } from "@osr/base/uuid";
import type {
  DiskReplicationFacts,
  MachineReplicationFacts,
} from "@osr/contracts/replication-facts";

import type { DiskStatus, MobilityStatus } from "./mobility-status.ts";

const DISKS_MAX = 256;
const HEALTH_MAX = 256;

/** What an agent tells its configuration server of its status; undefined: it replicates nothing. */
export function replicationFacts(
  status: MobilityStatus | undefined,
  about: { readonly agentVersion: string; readonly processServerId?: Uuid | undefined },
): MachineReplicationFacts {
  const { agentVersion, processServerId } = about;
  const common = {
    agentVersion,
    ...(processServerId === undefined ? {} : { processServerId }),
  };
  if (status === undefined)
    return { ...common, state: "idle", pointsMade: 0, pointsMissed: 0, disks: [], health: [] };
  const { state, newestPoint, pointsMade, pointsMissed, lastCut, disks, health } = status;
  return {
    ...common,
    state,
    ...(newestPoint === undefined ? {} : { newestPoint }),
    pointsMade,
    pointsMissed,
    ...(lastCut === undefined ? {} : { frozenMs: Math.round(lastCut.frozenMs) }),
    disks: disks.slice(0, DISKS_MAX).map(diskFacts),
    health: health
      .slice(0, HEALTH_MAX)
      .map((error) => ({ ...error, message: error.message.slice(0, 1024) })),
  };
}

function diskFacts(disk: DiskStatus): DiskReplicationFacts {
  const { identity, name, sizeBytes, stage, resync, lastResync, secondsLeft } = disk;
  const compared = resync ?? lastResync;
  return {
    identity,
    name,
    sizeBytes,
    stage,
    progressPermille: Math.round(Math.min(1, Math.max(0, disk.progress)) * 1000),
    ...(resync === undefined ? {} : { resyncReason: resync.reason }),
    ...(compared === undefined ? {} : { resyncDifferentBytes: compared.differingBytes }),
    dirtyBytes: Math.round(disk.dirtyBytes),
    readBytes: Math.round(disk.readBytes),
    sentBytes: Math.round(disk.sentBytes),
    ...(secondsLeft === undefined ? {} : { secondsLeft: Math.round(secondsLeft) }),
  };
}
