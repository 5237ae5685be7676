import type {
  Network,
  ProtectableItem,
  ReplicationProtectedItem,
} from "@azure/arm-recoveryservices-siterecovery";

import { OsrError } from "@osr/base/errors";

import { nameIn } from "./arm-id.ts";
import { MANAGEMENT_ERRORS } from "./management-errors.ts";
import type { Management } from "./management.ts";
import { asking, listed } from "./requests.ts";

/** Where a protected item is in the tree of resources. */
export type ItemPlace = {
  readonly fabric: string;
  readonly container: string;
  readonly name: string;
  readonly item: ReplicationProtectedItem;
};

type Named = {
  readonly name?: string;
  readonly id?: string;
  readonly properties?: { readonly friendlyName?: string };
};

/** The one that people mean: by name first, then by friendly name. Throws NAME_UNKNOWN, NAME_AMBIGUOUS. */
export function meant<T extends Named>(all: readonly T[], wanted: string, kind: string): T {
  const same = (text: string | undefined): boolean => text?.toLowerCase() === wanted.toLowerCase();
  const byName = all.filter(({ name, id }) => same(name) || same(id));
  const found =
    byName.length > 0 ? byName : all.filter(({ properties }) => same(properties?.friendlyName));
  const [first, second] = found;
  if (first !== undefined && second === undefined) return first;
  throw first === undefined
    ? new OsrError(MANAGEMENT_ERRORS.NAME_UNKNOWN, `there is no ${kind} ${wanted}`)
    : new OsrError(
        MANAGEMENT_ERRORS.NAME_AMBIGUOUS,
        `${found.length} ${kind}s are named ${wanted}`,
      );
}

export async function itemNamed(management: Management, wanted: string): Promise<ItemPlace> {
  const { siteRecovery, vault, resourceGroup } = management;
  const items = await listed(siteRecovery.replicationProtectedItems.list(vault, resourceGroup));
  const item = meant(items, wanted, "protected item");
  return {
    fabric: nameIn(item.id, "replicationFabrics") ?? "",
    container: nameIn(item.id, "replicationProtectionContainers") ?? "",
    name: item.name ?? "",
    item,
  };
}

/** The names of every protection container, with those of their fabrics. */
export async function containers(
  management: Management,
): Promise<readonly { readonly fabric: string; readonly container: string }[]> {
  const { siteRecovery, vault, resourceGroup } = management;
  const all = await listed(siteRecovery.replicationProtectionContainers.list(vault, resourceGroup));
  return all.map(({ id, name }) => ({
    fabric: nameIn(id, "replicationFabrics") ?? "",
    container: name ?? "",
  }));
}

/** The container of a fabric; the fabric may stay unnamed where there is only one. */
export async function containerOf(
  management: Management,
  fabric: string | undefined,
): Promise<{ readonly fabric: string; readonly container: string }> {
  const all = (await containers(management)).filter(
    ({ container }) => container.toLowerCase() !== "microsoft azure",
  );
  const named = all.map((place) => ({ ...place, name: place.fabric }));
  return fabric === undefined && named.length === 1
    ? meant(named, named[0]?.name ?? "", "fabric")
    : meant(named, fabric ?? "(none named)", "fabric");
}

export async function protectableItems(
  management: Management,
  place: { readonly fabric: string; readonly container: string },
): Promise<readonly ProtectableItem[]> {
  const { siteRecovery, vault, resourceGroup } = management;
  const { fabric, container } = place;
  return await listed(
    siteRecovery.replicationProtectableItems.listByReplicationProtectionContainers(
      vault,
      resourceGroup,
      fabric,
      container,
    ),
  );
}

export async function policyId(management: Management, name: string): Promise<string> {
  const { siteRecovery, vault, resourceGroup } = management;
  const policy = await asking(() =>
    siteRecovery.replicationPolicies.get(vault, resourceGroup, name),
  );
  return policy.id ?? "";
}

/** The ARM id of a network of the recovery site. */
export async function networkId(management: Management, name: string): Promise<string> {
  return meant(await networks(management), name, "network").id ?? "";
}

export async function networks(management: Management): Promise<readonly Network[]> {
  const { siteRecovery, vault, resourceGroup } = management;
  return await listed(siteRecovery.replicationNetworks.list(vault, resourceGroup));
}
