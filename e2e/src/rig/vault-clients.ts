import { readFileSync } from "node:fs";
import { join } from "node:path";

import { RecoveryServicesClient } from "@azure/arm-recoveryservices";
import { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { HOUR_MS } from "@osr/base/units";

import type { Site } from "./site.ts";

/** What `osr up` calls its vault. */
export const SUBSCRIPTION = "00000000-0000-0000-0000-000000000000";
export const RESOURCE_GROUP = "osr";
export const VAULT = "vault";

/** Microsoft's own clients, unchanged, as a user points them at the vault of a site. */
export function vaultClients(site: Site): {
  readonly recoveryServices: RecoveryServicesClient;
  readonly siteRecovery: SiteRecoveryManagementClient;
} {
  const file = (...path: string[]): string =>
    readFileSync(join(site.directory, ...path), "utf8").trim();
  const credential = {
    getToken: () =>
      Promise.resolve({
        token: file("secrets", "administrator.token"),
        expiresOnTimestamp: Date.now() + HOUR_MS,
      }),
  };
  const options = {
    endpoint: `https://127.0.0.1:${site.vaultPort}`,
    tlsOptions: { ca: file("vault", "authority.pem") },
    credentialScopes: "https://vault.osr/.default",
  };
  return {
    recoveryServices: new RecoveryServicesClient(credential, SUBSCRIPTION, options),
    siteRecovery: new SiteRecoveryManagementClient(credential, SUBSCRIPTION, options),
  };
}
