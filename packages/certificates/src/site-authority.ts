import "reflect-metadata";
import { webcrypto } from "node:crypto";

import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  cryptoProvider,
} from "@peculiar/x509";

import type { Clock } from "@osr/base/clock";
import { HOUR_MS } from "@osr/base/units";

cryptoProvider.set(webcrypto);

/** A certificate and its private key (PKCS #8), both in PEM. The key is a secret. */
export type Identity = { readonly certificatePem: string; readonly privateKeyPem: string };

export type CertificateUsage = "server" | "client" | "both";

export type CertificateOptions = {
  readonly commonName: string;
  /** Who it is for: `certificateUri` of @osr/contracts. */
  readonly uri?: string;
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly days: number;
  readonly usage: CertificateUsage;
  readonly clock: Clock;
};

const KEYS: webcrypto.EcKeyGenParams = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE: webcrypto.EcdsaParams & webcrypto.EcKeyImportParams = {
  name: "ECDSA",
  namedCurve: "P-256",
  hash: "SHA-256",
};
const DAY_MS = 24 * HOUR_MS;
/** Certificates are valid from an hour before, since the clocks of two machines differ. */
const SKEW_MS = HOUR_MS;

/** Makes a certificate authority: a self-signed P-256 certificate that may sign end certificates only. */
export async function createAuthority(options: {
  readonly commonName: string;
  readonly days: number;
  readonly clock: Clock;
}): Promise<Identity> {
  const keys = await webcrypto.subtle.generateKey(KEYS, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${options.commonName}`,
    keys,
    ...validity(options),
    signingAlgorithm: SIGNATURE,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return identityOf(certificate, keys.privateKey);
}

/** Makes a key pair and a certificate for it, signed by `authority`. */
export async function issueCertificate(
  authority: Identity,
  options: CertificateOptions,
): Promise<Identity> {
  const keys = await webcrypto.subtle.generateKey(KEYS, true, ["sign", "verify"]);
  const issuer = new X509Certificate(authority.certificatePem);
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${options.commonName}`,
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: await importKey(authority.privateKeyPem),
    ...validity(options),
    signingAlgorithm: SIGNATURE,
    extensions: endExtensions(options),
  });
  return identityOf(certificate, keys.privateKey);
}

function endExtensions(options: CertificateOptions): Extension[] {
  const usages = {
    server: [ExtendedKeyUsage.serverAuth],
    client: [ExtendedKeyUsage.clientAuth],
    both: [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth],
  }[options.usage];
  const names = [
    ...(options.uri === undefined ? [] : [{ type: "url" as const, value: options.uri }]),
    ...(options.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(options.ipAddresses ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension(usages, false),
    new SubjectAlternativeNameExtension(names, false),
  ];
}

function validity(options: { readonly days: number; readonly clock: Clock }): {
  notBefore: Date;
  notAfter: Date;
} {
  const now = options.clock.unixMs();
  return {
    // oxlint-disable-next-line no-restricted-globals -- the library takes dates; the moment comes from the port
    notBefore: new Date(now - SKEW_MS),
    // oxlint-disable-next-line no-restricted-globals -- as above
    notAfter: new Date(now + options.days * DAY_MS),
  };
}

async function identityOf(certificate: X509Certificate, key: CryptoKey): Promise<Identity> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return {
    certificatePem: `${certificate.toString("pem")}\n`,
    privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`,
  };
}

async function importKey(pem: string): Promise<CryptoKey> {
  const der = Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64");
  return webcrypto.subtle.importKey("pkcs8", der, KEYS, false, ["sign"]);
}
