import { RecoveryServicesClient } from "@azure/arm-recoveryservices";
import { SiteRecoveryManagementClient } from "@azure/arm-recoveryservices-siterecovery";

import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { HOUR_MS } from "@osr/base/units";

/** A vault as commands see it: Microsoft's own clients, unchanged, and which vault they talk about. */
export type Management = {
  readonly recoveryServices: RecoveryServicesClient;
  readonly siteRecovery: SiteRecoveryManagementClient;
  /** Address of the vault, such as `https://vault.example:8443`. */
  readonly vaultUrl: string;
  readonly subscription: string;
  readonly resourceGroup: string;
  readonly vault: string;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Tells a person how something goes on; not part of the result. */
  readonly narrate: (line: string) => void;
};

export type VaultAccess = {
  readonly vaultUrl: string;
  readonly authorityPem?: string | undefined;
  /** Read anew for each request, so that a renewed one is used. A secret. */
  readonly token: () => string;
};

/** The scope that the clients ask a token for; ours is a static bearer token that ignores it. */
const TOKEN_SCOPE = "https://vault.osr/.default";
const RETRIES_MAX = 3;

export function createManagement(
  access: VaultAccess,
  rest: Omit<Management, "recoveryServices" | "siteRecovery" | "vaultUrl">,
): Management {
  const { vaultUrl, authorityPem, token } = access;
  const credential = {
    getToken: () =>
      Promise.resolve({
        token: token(),
        expiresOnTimestamp: rest.clock.unixMs() + HOUR_MS,
      }),
  };
  const options = {
    endpoint: vaultUrl,
    credentialScopes: TOKEN_SCOPE,
    retryOptions: { maxRetries: RETRIES_MAX },
    ...(authorityPem === undefined ? {} : { tlsOptions: { ca: authorityPem } }),
  };
  return {
    ...rest,
    vaultUrl,
    recoveryServices: new RecoveryServicesClient(credential, rest.subscription, options),
    siteRecovery: new SiteRecoveryManagementClient(credential, rest.subscription, options),
  };
}
