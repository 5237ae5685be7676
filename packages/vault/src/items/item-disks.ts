import { list, object, text } from "@osr/base/json-shape";
import type { SessionDisk } from "@osr/contracts/agent-protocol";
import { diskIdOf } from "@osr/repository/disk-id";

import { badRequest } from "../arm/arm-error.ts";
import {
  type ArmAccepted,
  type ResourceRoute,
  type VaultRequest,
  accepted,
} from "../arm/resource-routes.ts";
import type { VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import { recordItemJob } from "./item-job.ts";
import { ITEM_ACTION, ITEM_PATH } from "./item-paths.ts";
import { type ItemRow, excludedDisksOf, foundItem, reportedMachine, stateOf } from "./item-row.ts";
import { requireAllowed } from "./item-state.ts";

const DISKS_MAX = 256;

type DisksBody = {
  readonly properties: {
    readonly providerSpecificDetails: { readonly disks: readonly { readonly diskId: string }[] };
  };
};
const disksShape = object<DisksBody>({
  properties: object<DisksBody["properties"]>({
    providerSpecificDetails: object<DisksBody["properties"]["providerSpecificDetails"]>({
      disks: list(object<{ diskId: string }>({ diskId: text(512) }), DISKS_MAX),
    }),
  }),
});

/** Which disks of a protected machine are replicated: each comes in or goes out by itself, and the others go on as they are. */
export function itemDiskRoutes(context: VaultContext): ResourceRoute[] {
  return [
    {
      method: "POST",
      path: `${ITEM_PATH}/addDisks`,
      action: `${ITEM_ACTION}/addDisks/action`,
      summary: "Replicate disks that were left out; only they are copied or compared",
      write: (request, tx) => changeDisks(request, tx, context, "AddDisks"),
    },
    {
      method: "POST",
      path: `${ITEM_PATH}/removeDisks`,
      action: `${ITEM_ACTION}/removeDisks/action`,
      summary: "Leave disks out; what is replicated of them is kept, new points are without them",
      write: (request, tx) => changeDisks(request, tx, context, "RemoveDisks"),
    },
  ];
}

async function changeDisks(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  kind: "AddDisks" | "RemoveDisks",
): Promise<ArmAccepted> {
  const row = await foundItem(request, tx, { isLocked: true });
  requireAllowed(stateOf(row), "Update", row.name);
  const { disks } = disksShape(request.body ?? null, "").properties.providerSpecificDetails;
  const known = (await reportedMachine(tx, row))?.registration?.disks ?? [];
  const named = disks.map(({ diskId }, index) => namedDisk(row, known, diskId, index));
  const excluded = new Set(excludedDisksOf(row));
  for (const { identity } of named)
    if (kind === "AddDisks") excluded.delete(identity);
    else excluded.add(identity);
  const boot = known.find(({ isBoot }) => isBoot);
  if (boot !== undefined && excluded.has(boot.identity))
    throw badRequest(
      "properties.providerSpecificDetails.disks",
      `without ${boot.name}, from which it boots, the machine cannot be failed over`,
    );
  if (known.every(({ identity }) => excluded.has(identity)))
    throw badRequest(
      "properties.providerSpecificDetails.disks",
      "would leave no disk to replicate: disable the replication instead",
    );
  await tx
    .updateTable("protected_item")
    .set({
      excluded_disks: JSON.stringify([...excluded].toSorted()),
      changed_at: context.clock.unixMs(),
    })
    .where("id", "=", row.id)
    .execute();
  await context.fabrics.changed(tx, row.fabric_id);
  const title = kind === "AddDisks" ? "Replicate more disks" : "Leave disks out";
  return accepted(await recordItemJob(request, tx, context, row, kind, title));
}

/** By identity, by name, or by the id that it has in the vault. Throws ArmError 400. */
function namedDisk(
  row: ItemRow,
  known: readonly SessionDisk[],
  word: string,
  index: number,
): SessionDisk {
  const found = known.find(({ identity, name }) =>
    [identity, name, diskIdOf(row.machine_id, identity)].some(
      (each) => each.toLowerCase() === word.toLowerCase(),
    ),
  );
  if (found !== undefined) return found;
  throw badRequest(
    `properties.providerSpecificDetails.disks[${index}].diskId`,
    `the machine has no disk ${word}; it has ${known.map(({ name }) => name).join(", ")}`,
  );
}
