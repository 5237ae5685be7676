import type { ReplicationProtectedItems } from "@azure/arm-recoveryservices-siterecovery";

import type { BeginOptions } from "./job-run.ts";
import type { Management } from "./management.ts";
import { itemNamed } from "./places.ts";
import type { View } from "./view.ts";
import { vaultJob } from "./vault-job.ts";

/** Vault, resource group, fabric, container, item: what every operation of an item starts with. */
type ItemAddress = readonly [string, string, string, string, string];

export type ItemRequest = (
  items: ReplicationProtectedItems,
  at: ItemAddress,
  begun: BeginOptions,
) => Promise<unknown>;

/** Finds the item that people mean, starts the operation and follows its job. */
export async function runItemJob(
  management: Management,
  name: string,
  options: { readonly wait: boolean },
  request: ItemRequest,
): Promise<View> {
  const place = await itemNamed(management, name);
  const at: ItemAddress = [
    management.vault,
    management.resourceGroup,
    place.fabric,
    place.container,
    place.name,
  ];
  return await vaultJob(management, options, (client, _, begun) =>
    request(client.replicationProtectedItems, at, begun),
  );
}
