import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import type { DesiredItem } from "@osr/contracts/fabric-protocol";
import { ensureDiskDescriptor } from "@osr/repository/disk-descriptor";
import { indexRootOf } from "@osr/repository/key-schedule";
import { claimLog } from "@osr/repository/log-claim";
import { readLogTip } from "@osr/repository/log-end";
import type { ObjectStore } from "@osr/repository/object-store";
import {
  type TagPosition,
  createRecoveryPoint,
  recoveryPointOf,
} from "@osr/repository/recovery-point";

/** What a process server does with a wish, in short: claims the logs of the disks and makes recovery points. */
export async function replicate(
  store: ObjectStore,
  vaultId: Uuid,
  item: DesiredItem,
  slots: readonly number[],
): Promise<void> {
  const { machineId, groupId, groupKey, disks } = item.grant;
  const positions: TagPosition[] = [];
  for (const disk of disks) {
    const { diskId, timeline, identity, claimGrant } = disk;
    const dataKey = { diskId, version: 1, bytes: Buffer.from(disk.dataKey, "hex") };
    const indexRoot = indexRootOf(dataKey);
    const log = { vaultId, diskId, timeline };
    await ensureDiskDescriptor(
      store,
      vaultId,
      {
        diskId,
        timeline,
        machineId,
        identity,
        name: "vda",
        sizeBytes: 2 ** 30,
        isBoot: true,
        machine: {
          hostName: "web01",
          biosUuid: "b",
          operatingSystem: "Debian 12",
          kernel: "6.1",
          firmware: "bios",
          cpuCount: 2,
          memoryBytes: 2 ** 31,
        },
      },
      { indexRoot },
    );
    const claim = {
      dataKey,
      owner: uuidOfName("test", "process-server"),
      clock: systemClock,
      randomness: systemRandomness,
    };
    const known = await readLogTip(store, log, indexRoot);
    const tip =
      known?.meta.fence?.owner === claim.owner
        ? known
        : await claimLog(store, log, { ...claim, grant: claimGrant });
    positions.push({ diskId, timeline, seq: tip.seq, head: tip.head });
  }
  for (const slot of slots) {
    const tag = {
      groupId,
      slot,
      cutId: uuidOfName("cut", String(slot)),
      class: slot % 2 === 0 ? "crash" : "app",
      unixMs: slot * 15_000,
      disks: disks.map(({ diskId }) => diskId).toSorted(),
    } as const;
    const point = recoveryPointOf(tag, positions, Buffer.from(groupKey, "hex"));
    await createRecoveryPoint(store, vaultId, point);
  }
}
