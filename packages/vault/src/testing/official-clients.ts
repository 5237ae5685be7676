import { RecoveryServicesClient } from "@azure/arm-recoveryservices";
import { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { systemClock } from "@osr/base/platform/system-clock";

import { SUBSCRIPTION, type TestVault } from "./test-vault.ts";

/** Microsoft's clients as their users construct them: an endpoint, a CA, a credential. */
export function clientsOf(vault: TestVault): {
  readonly rs: RecoveryServicesClient;
  readonly sr: SiteRecoveryManagementClient;
} {
  const credential = {
    getToken: () =>
      Promise.resolve({
        token: vault.token,
        expiresOnTimestamp: systemClock.unixMs() + 3600_000,
      }),
  };
  const options = {
    endpoint: vault.url,
    tlsOptions: { ca: vault.authorityPem },
    credentialScopes: "https://vault.local/.default",
    retryOptions: { maxRetries: 0 },
  };
  return {
    rs: new RecoveryServicesClient(credential, SUBSCRIPTION, options),
    sr: new SiteRecoveryManagementClient(credential, SUBSCRIPTION, options),
  };
}
