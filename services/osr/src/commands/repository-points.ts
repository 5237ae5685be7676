import type { Output } from "@osr/cli/output";
import type { RepositoryOptions } from "@osr/cli/program";
import { isoTime } from "@osr/base/platform/iso-time";
import { uuid } from "@osr/base/uuid";
import { listRecoveryPoints } from "@osr/repository/recovery-point";

import { groupKeysOf, openRepository } from "../repository/open-repository.ts";

/** `osr repository points`: what can be failed over to, and what cannot and why. */
export async function repositoryPoints(
  options: RepositoryOptions & { readonly machine?: string },
): Promise<Output> {
  using repository = await openRepository(options);
  const { offered, fuzzy, rejected } = await listRecoveryPoints(repository.store, {
    vaultId: repository.vaultId,
    groupKeys: groupKeysOf(repository),
    ...(options.machine === undefined ? {} : { groupId: uuid(options.machine) }),
  });
  for (const { name, error } of rejected)
    process.stderr.write(`not a recovery point: ${name}: ${error.code}: ${error.message}\n`);
  return [...offered, ...fuzzy].map((point) => ({
    point: point.slot,
    time: isoTime(point.unixMs),
    class: point.class,
    offered: point.class === "fuzzy" ? "no: it is not one instant" : "yes",
    disks: point.disks.length,
    machine: point.groupId,
    cut: point.cutId,
  }));
}
