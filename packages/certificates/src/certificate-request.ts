import "reflect-metadata";
import { createPublicKey, webcrypto } from "node:crypto";

import { Pkcs10CertificateRequest, cryptoProvider } from "@peculiar/x509";

import { OsrError, defineErrors } from "@osr/base/errors";

cryptoProvider.set(webcrypto);

const ERRORS = defineErrors({
  REQUEST_INVALID: {
    retryable: false,
    hint: "Make a new key pair (ECDSA, P-256) and a signing request (PKCS #10, PEM) for it, and enrol again.",
  },
});

const REQUEST_CHARS_MAX = 16 * 1024;
const PEM =
  /^-----BEGIN CERTIFICATE REQUEST-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*$/;

/** The public key (SPKI, DER) of a request whose maker has proven to hold the private one. Throws REQUEST_INVALID. */
export async function requestedKey(csrPem: string): Promise<Buffer<ArrayBuffer>> {
  if (csrPem.length > REQUEST_CHARS_MAX || !PEM.test(csrPem)) throw invalid("it is not in PEM");
  let spki: Buffer<ArrayBuffer>;
  let isProven: boolean;
  try {
    const request = new Pkcs10CertificateRequest(csrPem);
    spki = Buffer.from(request.publicKey.rawData);
    const key = createPublicKey({ key: spki, format: "der", type: "spki" });
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw invalid("it is not P-256");
    isProven = await request.verify();
  } catch (cause) {
    throw cause instanceof OsrError ? cause : invalid("it cannot be read", cause);
  }
  if (!isProven) throw invalid("its signature is wrong");
  return spki;
}

function invalid(why: string, cause?: unknown): OsrError {
  return new OsrError(ERRORS.REQUEST_INVALID, `the signing request is refused: ${why}`, { cause });
}
