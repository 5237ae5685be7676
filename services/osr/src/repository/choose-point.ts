import type { PointChoice } from "@osr/cli/program";
import { OsrError, defineErrors } from "@osr/base/errors";
import { isUuid } from "@osr/base/uuid";
import { type DiskDescriptor, readDiskDescriptor } from "@osr/repository/disk-descriptor";
import { indexRootOf } from "@osr/repository/key-schedule";
import { type RecoveryPoint, listRecoveryPoints } from "@osr/repository/recovery-point";

import { type Repository, dataKeyOf, groupKeysOf } from "./open-repository.ts";

const ERRORS = defineErrors({
  POINT_NOT_FOUND: { retryable: false, hint: "List them with `osr repository points`." },
  MACHINE_AMBIGUOUS: { retryable: false, hint: "Name one of them with --machine." },
  MACHINE_INVALID: { retryable: false, hint: "Give the id as `osr repository points` shows it." },
  DISK_NOT_FOUND: {
    retryable: false,
    hint: "Give the name or the id of one of the point's disks.",
  },
});

/** The recovery point that the options of a command name. Fuzzy ones are never offered. */
export async function choosePoint(
  repository: Repository,
  choice: PointChoice,
): Promise<RecoveryPoint> {
  const { store, vaultId } = repository;
  const groupId = choice.machine;
  if (groupId !== undefined && !isUuid(groupId))
    throw new OsrError(ERRORS.MACHINE_INVALID, `${groupId} is no id of a machine`);
  const { offered } = await listRecoveryPoints(store, {
    vaultId,
    groupKeys: groupKeysOf(repository),
    ...(groupId === undefined ? {} : { groupId }),
  });
  const groups = [...new Set(offered.map((point) => point.groupId))];
  if (groups.length > 1)
    throw new OsrError(ERRORS.MACHINE_AMBIGUOUS, `there are points of ${groups.join(", ")}`);
  const point =
    choice.point === "latest"
      ? offered.at(-1)
      : offered.find(({ slot }) => String(slot) === choice.point);
  if (point === undefined)
    throw new OsrError(ERRORS.POINT_NOT_FOUND, `there is no recovery point ${choice.point}`);
  return point;
}

/** The descriptors of a point's disks, in the point's order. */
export function disksOf(
  repository: Repository,
  point: RecoveryPoint,
): Promise<readonly DiskDescriptor[]> {
  const { store, vaultId } = repository;
  return Promise.all(
    point.disks.map(async ({ diskId, timeline }) => {
      const indexRoot = indexRootOf(await dataKeyOf(repository, diskId));
      return readDiskDescriptor(store, { vaultId, diskId, timeline }, indexRoot);
    }),
  );
}

/** The one disk that `name` names, by kernel name or id. */
export function diskNamed(disks: readonly DiskDescriptor[], name: string): DiskDescriptor {
  const found = disks.filter((disk) => disk.diskId === name || disk.name === name);
  const [disk] = found;
  if (disk === undefined || found.length > 1) {
    const names = disks.map((each) => `${each.name} (${each.diskId})`).join(", ");
    throw new OsrError(ERRORS.DISK_NOT_FOUND, `${name} is not one of ${names}`);
  }
  return disk;
}
