import "reflect-metadata";
import { webcrypto } from "node:crypto";

import {
  X509Certificate,
  X509Crl,
  X509CrlGenerator,
  X509CrlReason,
  cryptoProvider,
} from "@peculiar/x509";

import type { Clock } from "@osr/base/clock";
import { HOUR_MS } from "@osr/base/units";

import type { Identity } from "./site-authority.ts";

cryptoProvider.set(webcrypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const SKEW_MS = HOUR_MS;
/**
 * A list that has run out makes OpenSSL refuse everybody, so that one outage would become another. Lists are as good as the
 * channel that brings the newest one; this only has to outlast the certificates on them.
 */
const VALID_MS = 3650 * 24 * HOUR_MS;

export type RevokedCertificate = { readonly serial: string; readonly revokedUnixMs: number };

/** The certificates of `authority` that are not valid any more, in the PEM that Node takes as `crl`. Serials are in hex. */
export async function createRevocationList(
  authority: Identity,
  revoked: readonly RevokedCertificate[],
  clock: Clock,
): Promise<string> {
  const der = Buffer.from(
    authority.privateKeyPem.replaceAll(/-----[A-Z ]+-----|\s/g, ""),
    "base64",
  );
  const nowMs = clock.unixMs();
  const list = await X509CrlGenerator.create({
    issuer: new X509Certificate(authority.certificatePem).subject,
    thisUpdate: date(nowMs - SKEW_MS),
    nextUpdate: date(nowMs + VALID_MS),
    signingAlgorithm: ALGORITHM,
    signingKey: await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]),
    entries: revoked.map(({ serial, revokedUnixMs }) => ({
      serialNumber: serial,
      revocationDate: date(revokedUnixMs),
      reason: X509CrlReason.unspecified,
    })),
  });
  // The library's label is `CRL`, which OpenSSL does not know.
  return `${list.toString("pem").replaceAll(/(?<=BEGIN|END) CRL/g, " X509 CRL")}\n`;
}

/** The serials on a list, as `sameSerial` writes them. */
export function revokedSerials(listPem: string): ReadonlySet<string> {
  const list = new X509Crl(listPem.replaceAll("X509 CRL", "CRL"));
  return new Set(list.entries.map(({ serialNumber }) => sameSerial(serialNumber)));
}

/** A serial in hex, in the one way in which two of them may be compared: lists and certificates differ in case and leading zeros. */
export function sameSerial(serial: string): string {
  return serial.toLowerCase().replace(/^0+/, "");
}

function date(unixMs: number): Date {
  // oxlint-disable-next-line no-restricted-globals -- the library takes dates; the moment comes from the port
  return new Date(unixMs);
}
