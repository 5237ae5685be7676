import type { Clock } from "@osr/base/clock";
import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { HOUR_MS, MINUTE_MS } from "@osr/base/units";
import { certificateFacts, renewAtUnixMs } from "@osr/certificates/certificate-facts";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import { CERTIFICATE_RENEWED_AT_SHARE } from "@osr/contracts/enrolment";
import type { HttpsClient } from "@osr/https/https-client";

import { replyOf } from "./enrolment-client.ts";

/** The wall clock may jump, so it is looked at again and again instead of being waited for. */
const LOOK_MS_MAX = HOUR_MS;
const RETRY_MS = 10 * MINUTE_MS;

/** A certificate with its private key, and the authority that those of the other side come from. */
export type RenewableIdentity = {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly authorityPem: string;
};

export type RenewalOptions<Identity extends RenewableIdentity> = {
  readonly identity: () => Identity;
  /** Shows the old certificate, and is told of the new one by `onRenewed`. */
  readonly client: HttpsClient;
  readonly path: string;
  /** Keeps the new identity durably, then puts it to use. */
  readonly onRenewed: (identity: Identity) => void;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/** When an identity's certificate is due to be renewed. */
export function renewalDueUnixMs(identity: RenewableIdentity): number {
  return renewAtUnixMs(certificateFacts(identity.certificatePem), CERTIFICATE_RENEWED_AT_SHARE);
}

/** Renews a certificate whenever two thirds of its life are over, each time with a new key pair. Ends with the signal. */
export async function keepRenewed<Identity extends RenewableIdentity>(
  options: RenewalOptions<Identity>,
  signal: AbortSignal,
): Promise<void> {
  const { clock, scheduler, log } = options;
  while (!signal.aborted) {
    const waitMs = renewalDueUnixMs(options.identity()) - clock.unixMs();
    try {
      if (waitMs > 0) {
        await scheduler.sleep(Math.min(waitMs, LOOK_MS_MAX), signal);
        continue;
      }
      await renew(options, signal);
      log.info("the certificate was renewed");
    } catch (error) {
      if (signal.aborted) return;
      log.warn("the certificate could not be renewed; it is tried again", {
        error: messageOf(error),
      });
      await scheduler.sleep(RETRY_MS, signal).catch(() => undefined);
    }
  }
}

async function renew<Identity extends RenewableIdentity>(
  options: RenewalOptions<Identity>,
  signal: AbortSignal,
): Promise<void> {
  const { client, path } = options;
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const body = Buffer.from(JSON.stringify({ csrPem }));
  const reply = replyOf((await client.request({ method: "POST", path, body, signal })).body);
  const { certificatePem, authorityPem } = reply;
  options.onRenewed({ ...options.identity(), certificatePem, privateKeyPem, authorityPem });
}
