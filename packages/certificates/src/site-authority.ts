import "reflect-metadata";
import { createPublicKey, webcrypto } from "node:crypto";

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

import { requestedKey } from "./certificate-request.ts";

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

export type AuthorityOptions = {
  readonly commonName: string;
  readonly days: number;
  readonly clock: Clock;
};

type CryptoKeyPair = { readonly publicKey: CryptoKey; readonly privateKey: CryptoKey };

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
export async function createAuthority(options: AuthorityOptions): Promise<Identity> {
  return selfSigned(await webcrypto.subtle.generateKey(KEYS, true, ["sign", "verify"]), options);
}

/**
 * The authority of a key that exists (PKCS #8 in PEM, P-256). Authorities of one key and name are the same to whoever
 * checks a certificate, whichever of them it pins.
 */
export async function authorityOfKey(
  privateKeyPem: string,
  options: AuthorityOptions,
): Promise<Identity> {
  const spki = createPublicKey(privateKeyPem).export({ type: "spki", format: "der" });
  const privateKey = await importKey(privateKeyPem, true);
  const publicKey = await webcrypto.subtle.importKey("spki", spki, KEYS, true, ["verify"]);
  return selfSigned({ privateKey, publicKey }, options);
}

async function selfSigned(keys: CryptoKeyPair, options: AuthorityOptions): Promise<Identity> {
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
  return identityOf(await certify(authority, keys.publicKey, options), keys.privateKey);
}

/**
 * A certificate, in PEM, for the key of a signing request (certificate-request.ts). Its names and uses are those of
 * `options`; what else the request says counts for nothing. Throws REQUEST_INVALID.
 */
export async function signRequest(
  authority: Identity,
  csrPem: string,
  options: CertificateOptions,
): Promise<string> {
  const publicKey = await webcrypto.subtle.importKey(
    "spki",
    await requestedKey(csrPem),
    KEYS,
    true,
    ["verify"],
  );
  return `${(await certify(authority, publicKey, options)).toString("pem")}\n`;
}

async function certify(
  authority: Identity,
  publicKey: CryptoKey,
  options: CertificateOptions,
): Promise<X509Certificate> {
  return X509CertificateGenerator.create({
    subject: `CN=${options.commonName}`,
    issuer: new X509Certificate(authority.certificatePem).subject,
    publicKey,
    signingKey: await importKey(authority.privateKeyPem, false),
    ...validity(options),
    signingAlgorithm: SIGNATURE,
    extensions: endExtensions(options),
  });
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

async function importKey(pem: string, extractable: boolean): Promise<CryptoKey> {
  const der = Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\s/g, ""), "base64");
  return webcrypto.subtle.importKey("pkcs8", der, KEYS, extractable, ["sign"]);
}
