import { X509Certificate } from "node:crypto";

/** What those who hold or check a certificate want to know of it. */
export type CertificateFacts = {
  /** In hex, lower case, as OpenSSL writes it. */
  readonly serial: string;
  readonly fromUnixMs: number;
  readonly untilUnixMs: number;
  /** Node's text of the subject alternative names. */
  readonly names: string | undefined;
};

/** Reads a certificate in PEM. Throws where it is none. */
export function certificateFacts(pem: string): CertificateFacts {
  const certificate = new X509Certificate(pem);
  return {
    serial: certificate.serialNumber.toLowerCase(),
    fromUnixMs: certificate.validFromDate.getTime(),
    untilUnixMs: certificate.validToDate.getTime(),
    names: certificate.subjectAltName,
  };
}

/** When a certificate is to be renewed: after `share` of its life. */
export function renewAtUnixMs(facts: CertificateFacts, share: number): number {
  return Math.floor(facts.fromUnixMs + (facts.untilUnixMs - facts.fromUnixMs) * share);
}
