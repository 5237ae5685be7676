import { generateKeyPairSync, sign } from "node:crypto";

/** A key pair (PKCS #8; a secret) and a signing request for it (PKCS #10), both in PEM. */
export type CertificateRequest = { readonly csrPem: string; readonly privateKeyPem: string };

/** Tags of DER, and the two algorithms' identifiers: RFC 2986, RFC 5480, RFC 5758. */
const INTEGER_0 = Buffer.from("020100", "hex");
const COMMON_NAME = Buffer.from("0603550403", "hex");
const ECDSA_WITH_SHA256 = Buffer.from("300a06082a8648ce3d040302", "hex");
const NO_ATTRIBUTES = Buffer.from("a000", "hex");
const SEQUENCE = 0x30;
const SET = 0x31;
const UTF8_STRING = 0x0c;
const BIT_STRING = 0x03;
const LINE_CHARS = 64;

/**
 * Makes a new key pair. The request names nobody: whoever signs decides what goes into the certificate. Written out here,
 * since Node has no call for it and the agent, which needs one, ships without libraries.
 */
export function createCertificateRequest(): CertificateRequest {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const info = der(
    SEQUENCE,
    INTEGER_0,
    der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, Buffer.from("osr"))))),
    publicKey.export({ type: "spki", format: "der" }),
    NO_ATTRIBUTES,
  );
  const signature = sign("sha256", info, privateKey);
  const request = der(
    SEQUENCE,
    info,
    ECDSA_WITH_SHA256,
    // The first byte counts the bits of the last one that are not used.
    der(BIT_STRING, Buffer.of(0), signature),
  );
  const lines = request.toString("base64").match(new RegExp(`.{1,${LINE_CHARS}}`, "g")) ?? [];
  return {
    csrPem: `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join("\n")}\n-----END CERTIFICATE REQUEST-----\n`,
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
  };
}

/** One value in DER; contents of at most 65,535 bytes. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const prefix =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, Math.floor(length / 0x100), length % 0x100];
  return Buffer.concat([Buffer.from(prefix), content]);
}
