/** Template of a protected item's path, and the action under which roles allow what is done with it. */
export const ITEMS_PATH =
  "V/replicationFabrics/{fabricName}/replicationProtectionContainers/{protectionContainerName}/replicationProtectedItems";
export const ITEM_PATH = `${ITEMS_PATH}/{replicatedProtectedItemName}`;
export const ITEM_ACTION =
  "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers/replicationProtectedItems";
