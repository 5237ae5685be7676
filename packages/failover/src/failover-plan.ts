import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { MachineSpec } from "@osr/compute/compute-provider";
import { type DiskDescriptor, readDiskDescriptor } from "@osr/repository/disk-descriptor";
import { type DataKey, indexRootOf } from "@osr/repository/key-schedule";
import type { RecoveryPoint } from "@osr/repository/recovery-point";

import { FAILOVER_ERRORS } from "./failover-errors.ts";
import { type FailoverPorts, RUN_DIRECTORY_CHARS_MAX } from "./failover-ports.ts";

const SECTOR_BYTES = 512;
/** The kernel of the source counts less memory than the machine has, so the replica gets whole steps of this. */
const MEMORY_STEP_BYTES = 64 * MIB;

/** A disk of the machine at the point, with what is needed to open it. */
type PlannedDisk = { readonly descriptor: DiskDescriptor; readonly dataKey: DataKey };

/** What a failover will do, known before anything is made. */
export type FailoverPlan = {
  readonly machineId: Uuid;
  readonly point: RecoveryPoint;
  /** In the order of the source: vda, vdb; nvme2n1 before nvme10n1. */
  readonly disks: readonly PlannedDisk[];
  readonly description: DiskDescriptor["machine"];
};

/** Why a failover cannot begin. */
type RefusalReason = { readonly code: string; readonly message: string };

/** Reads the disks of a machine at a point and checks what can be checked beforehand. Throws FAILOVER_REFUSED. */
export async function planFailover(
  machineId: Uuid,
  point: RecoveryPoint,
  ports: Pick<FailoverPorts, "store" | "vaultId" | "keys" | "runDirectory">,
  signal: AbortSignal,
): Promise<FailoverPlan> {
  const disks: PlannedDisk[] = [];
  for (const { diskId, timeline, sizeBytes } of point.disks) {
    const dataKey = await ports.keys.dataKey(diskId, signal);
    const log = { vaultId: ports.vaultId, diskId, timeline };
    const enrolled = await readDiskDescriptor(ports.store, log, indexRootOf(dataKey), signal);
    // The disk may have grown since it was enrolled.
    const descriptor = { ...enrolled, sizeBytes: sizeBytes ?? enrolled.sizeBytes };
    // A point of a replication group also holds the disks of other machines.
    if (descriptor.machineId === machineId) disks.push({ descriptor, dataKey });
  }
  const byName = new Intl.Collator("en", { numeric: true });
  disks.sort(
    ({ descriptor: a }, { descriptor: b }) =>
      a.name.length - b.name.length || byName.compare(a.name, b.name),
  );
  const descriptors = disks.map(({ descriptor }) => descriptor);
  const reasons = [
    ...diskReasons(machineId, point, descriptors),
    ...directoryReasons(ports.runDirectory),
  ];
  const [first] = descriptors;
  if (reasons.length > 0 || first === undefined)
    throw new OsrError(
      FAILOVER_ERRORS.FAILOVER_REFUSED,
      `machine ${machineId} cannot be failed over: ${reasons.map(({ message }) => message).join("; ")}`,
      { details: { reasons } },
    );
  return { machineId, point, disks, description: first.machine };
}

function diskReasons(
  machineId: Uuid,
  point: RecoveryPoint,
  disks: readonly DiskDescriptor[],
): readonly RefusalReason[] {
  if (disks.length === 0)
    return [
      {
        code: "MACHINE_NOT_IN_POINT",
        message: `the point in slot ${point.slot} has no disk of machine ${machineId}`,
      },
    ];
  const reasons: RefusalReason[] = [];
  const bootDisks = disks.filter(({ isBoot }) => isBoot);
  if (bootDisks.length !== 1)
    reasons.push({
      code: "BOOT_DISK_UNCLEAR",
      message: `exactly one disk must be the boot disk, there are ${bootDisks.length}`,
    });
  for (const { name, sizeBytes } of disks)
    if (sizeBytes % SECTOR_BYTES !== 0)
      reasons.push({
        code: "DISK_SIZE_ODD",
        message: `${name} has ${sizeBytes} bytes, not whole sectors`,
      });
  if (new Set(disks.map(({ name }) => name)).size !== disks.length)
    reasons.push({ code: "DISK_NAMES_EQUAL", message: "two disks have the same name" });
  return reasons;
}

function directoryReasons(runDirectory: string): readonly RefusalReason[] {
  if (runDirectory.startsWith("/") && runDirectory.length <= RUN_DIRECTORY_CHARS_MAX) return [];
  const message = `the run directory must be an absolute path of at most ${RUN_DIRECTORY_CHARS_MAX} characters: ${runDirectory}`;
  return [{ code: "RUN_DIRECTORY_UNFIT", message }];
}

/** What the user may set differently from the source. */
export type ReplicaOptions = {
  readonly name?: string;
  readonly cpuCount?: number;
  readonly memoryBytes?: number;
  readonly nics?: MachineSpec["nics"];
};

/** The replica as the compute provider makes it. `biosUuid` is new: its agent must not take itself for the source. */
export function machineSpecOf(
  plan: FailoverPlan,
  replica: {
    readonly replicaId: Uuid;
    readonly biosUuid: Uuid;
    readonly unixSocketPath: string;
    readonly options: ReplicaOptions;
  },
): MachineSpec {
  const { options, unixSocketPath } = replica;
  const { hostName, firmware, cpuCount, memoryBytes } = plan.description;
  return {
    machineId: replica.replicaId,
    name: options.name ?? hostName,
    biosUuid: replica.biosUuid,
    firmware,
    cpuCount: options.cpuCount ?? cpuCount,
    memoryBytes:
      options.memoryBytes ?? Math.ceil(memoryBytes / MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES,
    disks: plan.disks.map(({ descriptor: { name, sizeBytes, isBoot, identity } }) => ({
      name,
      sizeBytes,
      isBoot,
      ...serialOf(identity),
      source: { unixSocketPath, exportName: name },
    })),
    nics: options.nics ?? [],
  };
}

/** Guests find disks by their serial, in udev rules and mount units. */
function serialOf(identity: string): { readonly serial?: string } {
  return identity.startsWith("serial:") ? { serial: identity.slice("serial:".length) } : {};
}
