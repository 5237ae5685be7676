import "reflect-metadata";
import { createPublicKey, generateKeyPairSync, webcrypto } from "node:crypto";

import {
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  cryptoProvider,
} from "@peculiar/x509";

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

/** A key pair (PKCS #8; a secret) and a signing request for it (PKCS #10), both in PEM. */
export type CertificateRequest = { readonly csrPem: string; readonly privateKeyPem: string };

/** Makes a new key pair. The request names nobody: whoever signs decides what goes into the certificate. */
export async function createCertificateRequest(): Promise<CertificateRequest> {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const der = pair.privateKey.export({ type: "pkcs8", format: "der" });
  const spki = pair.publicKey.export({ type: "spki", format: "der" });
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: "CN=osr",
    keys: {
      privateKey: await webcrypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]),
      publicKey: await webcrypto.subtle.importKey("spki", spki, algorithm, true, ["verify"]),
    },
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
  });
  return {
    csrPem: `${request.toString("pem")}\n`,
    privateKeyPem: pair.privateKey.export({ type: "pkcs8", format: "pem" }),
  };
}

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
