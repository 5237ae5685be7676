import { createRequire } from "node:module";

import { RecoveryServicesClient } from "@azure/arm-recoveryservices";
import { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import { systemClock } from "@osr/base/platform/system-clock";

import { GROUP, SUBSCRIPTION, type TestVault } from "./test-vault.ts";

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

/** Of 2016, generated in 2017, without types of its own that today's compiler takes. */
export function legacyClient(vault: TestVault): any {
  const require = createRequire(import.meta.url);
  const SiteRecovery = require("azure-arm-recoveryservices-siterecovery");
  const { TokenCredentials } = require("ms-rest");
  const options = {
    noRetryPolicy: true,
    longRunningOperationRetryTimeout: 0,
    requestOptions: { ca: vault.authorityPem },
  };
  const credentials = new TokenCredentials(vault.token);
  return new SiteRecovery(credentials, SUBSCRIPTION, GROUP, "vault", vault.url, options);
}
