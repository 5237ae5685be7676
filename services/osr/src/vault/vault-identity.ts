import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Identity } from "@osr/certificates/site-authority";
import { type Uuid, uuidOfName } from "@osr/base/uuid";

import { pathFrom } from "../site/configuration-file.ts";
import { writeDurably } from "../site/durable-file.ts";
import { keptAuthority, roleCertificate } from "../site/site-certificates.ts";
import type { VaultConfiguration } from "./vault-configuration.ts";

/** The vault's own authority: signs configuration servers' certificates and, where none is given, the vault's. */
export function vaultAuthority(configFile: string, config: VaultConfiguration): Promise<Identity> {
  return keptAuthority(authorityFiles(configFile, config), "Open Site Recovery vault authority");
}

/** Puts the authority of a vault that was lost in the place of its own, so that configuration servers know the new one. */
export function writeVaultAuthority(
  configFile: string,
  config: VaultConfiguration,
  authority: Identity,
): void {
  const files = authorityFiles(configFile, config);
  const folder = dirname(files.authorityFile);
  // The server's own certificate is of the authority before.
  for (const name of ["certificate.pem", "private-key.pem"])
    rmSync(join(folder, name), { force: true });
  writeDurably(files.authorityFile, authority.certificatePem, 0o644);
  writeDurably(files.authorityKeyFile, authority.privateKeyPem, 0o600);
}

function authorityFiles(
  configFile: string,
  config: VaultConfiguration,
): { authorityFile: string; authorityKeyFile: string } {
  const folder = pathFrom(configFile, config.directory);
  return {
    authorityFile: join(folder, "authority.pem"),
    authorityKeyFile: join(folder, "authority-key.pem"),
  };
}

/** Certificate and key that the vault serves with at the moment: the given ones, or its own, renewed as they age. */
export async function vaultIdentity(
  configFile: string,
  config: VaultConfiguration,
  authority: Identity,
): Promise<Identity> {
  const { certificate, privateKey, names } = config.listen;
  const folder = pathFrom(configFile, config.directory);
  const files =
    certificate === undefined || privateKey === undefined
      ? {
          certificateFile: join(folder, "certificate.pem"),
          privateKeyFile: join(folder, "private-key.pem"),
        }
      : {
          certificateFile: pathFrom(configFile, certificate),
          privateKeyFile: pathFrom(configFile, privateKey),
        };
  if (certificate === undefined || privateKey === undefined)
    await roleCertificate(authority, files, { role: "vault", id: idOf(authority) }, names);
  return {
    certificatePem: readFileSync(files.certificateFile, "utf8"),
    privateKeyPem: readFileSync(files.privateKeyFile, "utf8"),
  };
}

function idOf(authority: Identity): Uuid {
  return uuidOfName("vault", authority.certificatePem);
}
