import { createHmac } from "node:crypto";

import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import {
  FABRIC_ROUTES,
  type FabricRegistration,
  type VaultCredentials,
  fabricRegistrationReplyShape,
} from "@osr/contracts/fabric-protocol";
import { HttpsClient } from "@osr/https/https-client";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import type { FabricIdentity } from "./fabric-identity.ts";

const TIMEOUT_MS = 60 * SECOND_MS;

export type RegistrationOptions = {
  readonly credentials: VaultCredentials;
  readonly name: string;
  /** Of the fabric that this configuration server takes over, where it was registered before. */
  readonly fabricId?: Uuid | undefined;
  readonly takeoverKey: string;
  readonly siteAuthorityPem: string;
  readonly hostName: string;
  readonly version: string;
  readonly proxyUrl?: string | undefined;
};

/** Registers the site with a vault, which the credentials name and pin. Throws CREDENTIALS_EXPIRED and what the vault answers. */
export async function registerFabric(
  options: RegistrationOptions,
  ports: { readonly clock: Clock; readonly scheduler: Scheduler },
): Promise<FabricIdentity> {
  const { credentials, name, fabricId, takeoverKey, proxyUrl } = options;
  if (credentials.expiresUnixMs <= ports.clock.unixMs())
    throw new OsrError(
      CONFIGURATION_SERVER_ERRORS.CREDENTIALS_EXPIRED,
      "the vault credentials have expired",
    );
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const takeover = createHmac("sha256", Buffer.from(takeoverKey, "hex")).update(csrPem);
  const request: FabricRegistration = {
    token: credentials.token,
    name,
    ...(fabricId === undefined ? {} : { fabricId, takeover: takeover.digest("hex") }),
    takeoverKey,
    csrPem,
    hostName: options.hostName,
    version: options.version,
    siteAuthorityPem: options.siteAuthorityPem,
  };
  using client = new HttpsClient({
    baseUrl: credentials.vaultUrl,
    authorityPem: credentials.vaultAuthorityPem,
    socketsMax: 1,
    timeoutMs: TIMEOUT_MS,
    ...(proxyUrl === undefined ? {} : { proxyUrl }),
    scheduler: ports.scheduler,
  });
  const body = Buffer.from(JSON.stringify(request));
  const reply = await client.request({ method: "POST", path: FABRIC_ROUTES.registration, body });
  const known = parseJson(reply.body.toString("utf8"), fabricRegistrationReplyShape);
  return {
    fabricId: known.fabricId,
    name,
    vaultId: known.vaultId,
    vaultUrl: credentials.vaultUrl,
    certificatePem: known.certificatePem,
    privateKeyPem,
    authorityPem: known.authorityPem,
  };
}
