import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";

import { type ErrorInfo, OsrError } from "@osr/base/errors";

import { HTTPS_ERRORS } from "./https-errors.ts";

/** Verdicts of OpenSSL that are told apart, as Node names them; every other one is about who has signed. */
const KNOWN_VERDICTS: Readonly<Record<string, ErrorInfo>> = {
  CERT_HAS_EXPIRED: HTTPS_ERRORS.CERTIFICATE_EXPIRED,
  CERT_NOT_YET_VALID: HTTPS_ERRORS.CERTIFICATE_EXPIRED,
  CERT_REVOKED: HTTPS_ERRORS.CERTIFICATE_REVOKED,
};

/**
 * Why the certificate that the client of a request has shown is not accepted, by name: Node ends a handshake without a word,
 * so the client could not tell an expired certificate from a broken network. Undefined where it is accepted.
 */
export function certificateRefusal({ socket }: IncomingMessage): OsrError | undefined {
  const { authorized, authorizationError } = socket as TLSSocket;
  if (authorized) return undefined;
  // Node gives an empty object where the client has shown none.
  if (!("raw" in (socket as TLSSocket).getPeerCertificate()))
    return new OsrError(HTTPS_ERRORS.CERTIFICATE_REQUIRED, "the client has shown no certificate");
  const verdict = String(authorizationError);
  const info = KNOWN_VERDICTS[verdict] ?? HTTPS_ERRORS.CERTIFICATE_UNTRUSTED;
  return new OsrError(info, `the client's certificate is not accepted: ${verdict}`);
}
