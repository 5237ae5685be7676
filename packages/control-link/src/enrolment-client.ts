import { createHash, createHmac } from "node:crypto";

import { OsrError } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import type { Randomness } from "@osr/base/randomness";
import { type RetryPolicy, retried } from "@osr/base/retry";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { createCertificateRequest } from "@osr/certificates/signing-request";
import {
  ENROLMENT_ROUTES,
  type EnrolledRole,
  type EnrolmentRequest,
  enrolmentReplyShape,
} from "@osr/contracts/enrolment";
import { HttpsClient } from "@osr/https/https-client";

import { LINK_ERRORS } from "./link-errors.ts";
import { pinnedAuthority } from "./pinned-authority.ts";
import type { RoleIdentity } from "./role-identity.ts";
import { httpsUrl, serverAddress } from "./server-address.ts";

const TIMEOUT_MS = 30 * SECOND_MS;
const RETRIES: RetryPolicy = {
  attemptsMax: 5,
  delayFirstMs: 500,
  delayMaxMs: 5 * SECOND_MS,
};

export type EnrolmentSecret =
  | { readonly kind: "token"; readonly tokenId: Uuid; readonly secret: string }
  | { readonly kind: "passphrase"; readonly secret: string };

export type EnrolmentOptions = {
  readonly role: EnrolledRole;
  /** `host:port`. */
  readonly configurationServer: string;
  readonly authorityFingerprint: string;
  readonly secret: EnrolmentSecret;
  /** Of a role that was enrolled before. */
  readonly id?: Uuid | undefined;
  readonly hostName: string;
  readonly biosUuid: string;
  readonly addresses: readonly string[];
};

/** What is kept of a secret, and makes proofs. In hex. */
export function verifierOf(secret: string): string {
  return createHash("sha256").update(secret, "utf8").digest("hex");
}

/** That the maker of the request knows the secret, in hex. */
export function proofOf(verifier: string, csrPem: string): string {
  return createHmac("sha256", Buffer.from(verifier, "hex")).update(csrPem).digest("hex");
}

/**
 * Enrols with a configuration server: makes a key pair, pins the site's authority, proves the secret, and takes the
 * certificate. Where a reply is lost, the same request is sent again, which a one-time token allows. Throws what the
 * configuration server answers, AUTHORITY_UNKNOWN, SERVER_UNREACHABLE.
 */
export async function enrolRole(
  options: EnrolmentOptions,
  ports: { readonly scheduler: Scheduler; readonly randomness: Randomness },
): Promise<RoleIdentity> {
  const { configurationServer, authorityFingerprint, secret, role, id, addresses } = options;
  const address = serverAddress(configurationServer);
  const { csrPem, privateKeyPem } = createCertificateRequest();
  const request: EnrolmentRequest = {
    role,
    proofOf: secret.kind,
    ...(secret.kind === "token" ? { tokenId: secret.tokenId } : {}),
    proof: proofOf(verifierOf(secret.secret), csrPem),
    csrPem,
    ...(id === undefined ? {} : { id }),
    hostName: options.hostName,
    biosUuid: options.biosUuid,
    addresses: addresses.join(","),
  };
  const attempt = async (): Promise<RoleIdentity> => {
    const authorityPem = await pinnedAuthority(address, authorityFingerprint, ports.scheduler);
    using client = new HttpsClient({
      baseUrl: httpsUrl(address),
      authorityPem,
      peer: { role: "configuration-server" },
      socketsMax: 1,
      timeoutMs: TIMEOUT_MS,
      scheduler: ports.scheduler,
    });
    const body = Buffer.from(JSON.stringify(request));
    const { body: reply } = await client.request({
      method: "POST",
      path: ENROLMENT_ROUTES.enrol,
      body,
    });
    const enrolled = replyOf(reply);
    const { certificatePem } = enrolled;
    return {
      id: enrolled.id,
      configurationServer,
      certificatePem,
      privateKeyPem,
      authorityPem: enrolled.authorityPem,
    };
  };
  return retried(attempt, RETRIES, ports);
}

export function replyOf(body: Buffer): ReturnType<typeof enrolmentReplyShape> {
  try {
    return parseJson(body.toString("utf8"), enrolmentReplyShape);
  } catch (cause) {
    throw new OsrError(LINK_ERRORS.REPLY_INVALID, "unexpected reply to an enrolment", { cause });
  }
}
