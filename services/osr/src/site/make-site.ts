import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statfsSync } from "node:fs";
import { resolve } from "node:path";

import type { UpOptions } from "@osr/cli/program";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { GIB } from "@osr/base/units";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import { writeDurably, writeOnce } from "./durable-file.ts";
import { roleCertificate, siteAuthority } from "./site-certificates.ts";
import { type SiteFolder, TOKEN_ROLES, siteFolder } from "./site-folder.ts";
import { CONTAINER, type Site, readSite } from "./site.ts";

const CACHE_BYTES_MIN = GIB;

/**
 * Makes what a site lacks: keys, tokens and ids once, certificates as they age, the configurations each time.
 * Running it again changes nothing that data depends on.
 */
export async function makeSite(options: UpOptions): Promise<{ folder: SiteFolder; site: Site }> {
  // Absolute: paths in a role's configuration are relative to its own folder.
  const folder = siteFolder(resolve(options.directory));
  mkdirSync(folder.root, { recursive: true, mode: 0o700 });
  writeOnce(folder.vaultKeyFile, 0o600, () => `${randomBytes(32).toString("hex")}\n`);
  for (const role of TOKEN_ROLES)
    writeOnce(folder.tokenFile(role), 0o600, () => `${randomBytes(32).toString("hex")}\n`);
  const site = writeSiteFile(folder, options);
  const authority = await siteAuthority(folder);
  const id = site.siteId;
  await roleCertificate(authority, folder.storageAccount, { role: "storage-account", id }, [
    site.host,
  ]);
  await roleCertificate(authority, folder.processServer, { role: "process-server", id }, [
    site.host,
    ...options.processServerName,
  ]);
  writeTokenHashes(folder);
  writeConfigurations(folder, site);
  return { folder, site };
}

function writeSiteFile(folder: SiteFolder, options: UpOptions): Site {
  const addresses = {
    host: options.host,
    processServerPort: options.processServerPort,
    storageAccountPort: options.storageAccountPort,
  };
  const ids = existsSync(folder.siteFile)
    ? readSite(folder.root).site
    : { vaultId: randomUuid(systemRandomness), siteId: randomUuid(systemRandomness) };
  const site = { vaultId: ids.vaultId, siteId: ids.siteId, ...addresses };
  writeDurably(folder.siteFile, json(site), 0o644);
  return site;
}

/** The vault whose objects commands about this site look at from now on. */
export function rememberVault(folder: SiteFolder, site: Site, vaultId: Uuid): void {
  if (site.vaultId !== vaultId) writeDurably(folder.siteFile, json({ ...site, vaultId }), 0o644);
}

function writeTokenHashes(folder: SiteFolder): void {
  const tokens = TOKEN_ROLES.map((role) => {
    const token = readFileSync(folder.tokenFile(role), "utf8").trim();
    return { role, sha256: createHash("sha256").update(token).digest("hex") };
  });
  writeDurably(folder.storageAccount.tokensFile, json({ tokens }), 0o600);
}

function writeConfigurations(folder: SiteFolder, site: Site): void {
  const { storageAccount, processServer } = folder;
  const listen = (
    role: { certificateFile: string; privateKeyFile: string },
    port: number,
  ): object => ({
    host: site.host,
    port,
    certificate: role.certificateFile,
    privateKey: role.privateKeyFile,
  });
  writeDurably(
    storageAccount.configFile,
    json({
      listen: listen(storageAccount, site.storageAccountPort),
      directory: storageAccount.data,
      tokensFile: storageAccount.tokensFile,
    }),
    0o600,
  );
  writeDurably(
    processServer.configFile,
    json({
      listen: listen(processServer, site.processServerPort),
      authority: folder.authorityFile,
      spoolDirectory: processServer.spool,
      cacheBytesMax: cacheBytesOf(folder.root),
      metricsPort: 0,
      storageAccount: {
        endpoint: `https://${site.host}:${site.storageAccountPort}`,
        container: CONTAINER,
        tokenFile: folder.tokenFile("ingest"),
        authority: folder.authorityFile,
      },
      vaultId: site.vaultId,
      vaultKeyFile: folder.vaultKeyFile,
    }),
    0o600,
  );
}

/** The cache gets a quarter of what is free: on a site's only machine, the storage account needs the rest. */
export function cacheBytesOf(root: string): number {
  const { bavail, bsize } = statfsSync(root);
  return Math.max(CACHE_BYTES_MIN, Math.floor((bavail * bsize) / 4));
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
