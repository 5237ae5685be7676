import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";

import { type Identity, createAuthority, issueCertificate } from "@osr/certificates/site-authority";
import { systemClock } from "@osr/base/platform/system-clock";
import { type CertificateName, certificateUri } from "@osr/contracts/certificate-name";

import { writeDurably } from "./durable-file.ts";
import type { RoleFolder, SiteFolder } from "./site-folder.ts";

const AUTHORITY_DAYS = 3650;
const CERTIFICATE_DAYS = 30;
const RENEWED_AT_SHARE = 2 / 3;

type AuthorityFiles = Pick<SiteFolder, "authorityFile" | "authorityKeyFile">;

/** The site's certificate authority, made the first time. */
export function siteAuthority(folder: AuthorityFiles): Promise<Identity> {
  return keptAuthority(folder, "Open Site Recovery site authority");
}

/** The certificate authority of these files, made the first time. */
export async function keptAuthority(folder: AuthorityFiles, commonName: string): Promise<Identity> {
  if (!existsSync(folder.authorityKeyFile)) {
    const made = await createAuthority({
      commonName,
      days: AUTHORITY_DAYS,
      clock: systemClock,
    });
    // The certificate first: a key without its certificate would be taken for a whole authority.
    writeDurably(folder.authorityFile, made.certificatePem, 0o644);
    writeDurably(folder.authorityKeyFile, made.privateKeyPem, 0o600);
  }
  return {
    certificatePem: readFileSync(folder.authorityFile, "utf8"),
    privateKeyPem: readFileSync(folder.authorityKeyFile, "utf8"),
  };
}

/** Gives a role a server certificate of 30 days; renews it at two thirds and where an address of it is new. */
export async function roleCertificate(
  authority: Identity,
  role: Pick<RoleFolder, "certificateFile" | "privateKeyFile">,
  name: CertificateName,
  addresses: readonly string[],
): Promise<void> {
  if (isFresh(role.certificateFile, addresses)) return;
  const identity = await issueCertificate(authority, {
    commonName: name.role,
    uri: certificateUri(name),
    ...addressNames(addresses),
    days: CERTIFICATE_DAYS,
    usage: "both",
    clock: systemClock,
  });
  writeDurably(role.privateKeyFile, identity.privateKeyPem, 0o600);
  writeDurably(role.certificateFile, identity.certificatePem, 0o644);
}

/** A client certificate of 30 days for a machine. */
export function machineCertificate(authority: Identity, name: CertificateName): Promise<Identity> {
  return issueCertificate(authority, {
    commonName: name.role,
    uri: certificateUri(name),
    days: CERTIFICATE_DAYS,
    usage: "client",
    clock: systemClock,
  });
}

/** Names under which a server is reached: its addresses, and loopback for the roles of the same machine. */
function addressNames(addresses: readonly string[]): { dnsNames: string[]; ipAddresses: string[] } {
  const all = [...new Set(["localhost", "127.0.0.1", ...addresses])];
  return {
    dnsNames: all.filter((address) => isIP(address) === 0),
    ipAddresses: all.filter((address) => isIP(address) !== 0),
  };
}

function isFresh(certificateFile: string, addresses: readonly string[]): boolean {
  if (!existsSync(certificateFile)) return false;
  const certificate = new X509Certificate(readFileSync(certificateFile));
  const from = certificate.validFromDate.getTime();
  const to = certificate.validToDate.getTime();
  const coversAll = addresses.every(
    (address) => (certificate.checkIP(address) ?? certificate.checkHost(address)) !== undefined,
  );
  return coversAll && systemClock.unixMs() < from + (to - from) * RENEWED_AT_SHARE;
}
