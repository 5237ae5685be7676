import type { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { type BeginOptions, runJob } from "./job-run.ts";
import type { Management } from "./management.ts";
import { type View, jobView } from "./view.ts";

/** Vault and resource group: what every request starts with. */
type VaultAddress = readonly [vault: string, resourceGroup: string];

/** Starts a long-running operation of the vault, follows its job unless told not to, and shows it. */
export async function vaultJob(
  management: Management,
  options: { readonly wait: boolean },
  request: (
    client: SiteRecoveryManagementClient,
    at: VaultAddress,
    begun: BeginOptions,
  ) => Promise<unknown>,
): Promise<View> {
  const { siteRecovery, vault, resourceGroup } = management;
  const at: VaultAddress = [vault, resourceGroup];
  return jobView(await runJob(management, (begun) => request(siteRecovery, at, begun), options));
}
