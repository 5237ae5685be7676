import { join } from "node:path";

import { silentLog } from "@osr/base/log";
import type { Uuid } from "@osr/base/uuid";
import {
  type DesiredFabric,
  type DesiredItem,
  type FabricMachine,
  desiredFabricShape,
  fabricMachineShape,
} from "@osr/contracts/fabric-protocol";
import type { ObjectStore } from "@osr/repository/object-store";
import { openConfiguredSite } from "@osr/service-osr/configuration-server/open-configured-site";
import { openStore } from "@osr/service-osr/repository/open-store";
import type { TokenRole } from "@osr/service-osr/site/site-folder";
import { CONTAINER, readSite } from "@osr/service-osr/site/site";

import type { Site } from "./site.ts";

/** What the configuration server of a site has on its disk. */
export class SiteState {
  readonly desired: DesiredFabric | undefined;
  readonly machines: readonly FabricMachine[];

  constructor(desired: DesiredFabric | undefined, machines: readonly FabricMachine[]) {
    this.desired = desired;
    this.machines = machines;
  }

  static async read(site: Site): Promise<SiteState> {
    using open = await openConfiguredSite(
      join(site.directory, "configuration-server", "config.json"),
    );
    const { state } = open.site;
    return new SiteState(
      state.kept("desired", desiredFabricShape),
      state.records("machine", fabricMachineShape),
    );
  }

  get revision(): number {
    return this.desired?.revision ?? 0;
  }

  /** What the vault wishes of a machine. */
  wish(machineId: Uuid): DesiredItem | undefined {
    return this.desired?.items.find(({ grant }) => grant.machineId === machineId);
  }
}

/** Works with the storage account of a site over the network, with the rights of a role. */
export async function withStore<T>(
  { directory }: Site,
  role: TokenRole,
  work: (store: ObjectStore, vaultId: Uuid) => Promise<T>,
): Promise<T> {
  const { folder, site } = readSite(directory);
  using open = openStore(
    {
      endpoint: `https://${site.host}:${site.storageAccountPort}`,
      container: CONTAINER,
      tokenFile: folder.tokenFile(role),
      authority: folder.authorityFile,
    },
    silentLog,
  );
  return await work(open.store, site.vaultId);
}
