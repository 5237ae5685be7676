import { randomUuid } from "@osr/base/uuid";
import type { Uuid } from "@osr/base/uuid";
import type { SessionDisk, SessionRequest } from "@osr/contracts/agent-protocol";
import { type DiskDescriptor, ensureDiskDescriptor } from "@osr/repository/disk-descriptor";
import { type LogTip, claimLog, readLogTip } from "@osr/repository/disk-log";
import { indexRootOf } from "@osr/repository/key-schedule";

import type { AdmittedDisk } from "./disk-authority.ts";
import { DiskStream } from "./disk-stream.ts";
import { type LogOwner, readLogOwner, writeLogOwner } from "./log-owner.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import type { RoleContext } from "./role-context.ts";
import type { SegmentKeys } from "./segment-plan.ts";
import { diskFolder } from "./spool-layout.ts";
import { recoverSpool } from "./spool-recovery.ts";

/** A disk that is to be written, as the machine and its authority describe it. */
export type DiskToOpen = {
  readonly machineId: Uuid;
  readonly request: SessionRequest;
  readonly disk: SessionDisk;
  readonly admitted: AdmittedDisk;
};

/**
 * Opens the stream of a disk: describes the disk in the storage account, finds the end of its log, recovers what an
 * earlier run left in the spool, and claims the log unless this spool owns it already. Write order: the fence is in the
 * log before `owner.json` says that it is ours; a crash between them costs one more fence.
 */
export async function openDiskStream(
  context: RoleContext,
  points: RecoveryPoints,
  toOpen: DiskToOpen,
  signal: AbortSignal,
): Promise<DiskStream> {
  const { store, vaultId, log } = context;
  const { diskId, timeline, dataKey } = toOpen.admitted;
  const indexRoot = indexRootOf(dataKey);
  const keys: SegmentKeys = { log: { vaultId, diskId, timeline }, dataKey, indexRoot };
  const { sizeBytes } = await describeDisk(context, toOpen, { indexRoot, signal });
  const folder = diskFolder(context.spoolFolder, diskId, timeline);
  let tip = await readLogTip(store, keys.log, indexRoot, signal);
  const segments = await recoverSpool(folder, keys, tip, log.child({ diskId }));
  const owner = await readLogOwner(folder);
  const isMine = segments.length > 0 || owner?.generation === tip?.generation;
  if (tip === undefined || !isMine) tip = await claim(context, keys, { folder, owner, signal });
  const { tag } = tip.meta;
  const { seq, head } = tip;
  if (tag !== undefined) await points.vaulted(tag, { diskId, timeline, seq, head });
  const start = { keys, folder, tip, segments, enrolledBytes: sizeBytes };
  return new DiskStream(context, points, start);
}

async function describeDisk(
  context: RoleContext,
  { machineId, request, disk, admitted }: DiskToOpen,
  options: { readonly indexRoot: Buffer; readonly signal: AbortSignal },
): Promise<DiskDescriptor> {
  const { diskId, timeline } = admitted;
  const { identity, name, sizeBytes, isBoot } = disk;
  const { machine } = request;
  const descriptor = { diskId, timeline, machineId, identity, name, sizeBytes, isBoot, machine };
  return await ensureDiskDescriptor(context.store, context.vaultId, descriptor, options);
}

async function claim(
  context: RoleContext,
  { log, dataKey }: SegmentKeys,
  mine: {
    readonly folder: string;
    readonly owner: LogOwner | undefined;
    readonly signal: AbortSignal;
  },
): Promise<LogTip> {
  const { store, clock, randomness } = context;
  const { folder, signal } = mine;
  const owner = mine.owner?.owner ?? randomUuid(randomness);
  const claimed = { dataKey, owner, kind: "claim", clock, randomness, signal } as const;
  const tip = await claimLog(store, log, claimed);
  await writeLogOwner(folder, { owner, generation: tip.generation });
  const { diskId } = log;
  context.log.info("claimed the log of a disk", { diskId, generation: tip.generation });
  return tip;
}
