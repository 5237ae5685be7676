import { chmodSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { UpOptions } from "@osr/cli/program";
import { createManagement } from "@osr/cli/management/management";
import type { Context, Contexts } from "@osr/cli/management/contexts";
import { asking } from "@osr/cli/management/requests";
import { FABRIC_IDENTITY, fabricIdentityShape } from "@osr/configuration-server/fabric-identity";
import { OsrError } from "@osr/base/errors";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Uuid } from "@osr/base/uuid";

import { createTokenFile, enrolProcessServer } from "../configuration-server/enrolment-commands.ts";
import { initConfigurationServer } from "../configuration-server/init.ts";
import { openConfiguredSite } from "../configuration-server/open-configured-site.ts";
import { registerSite } from "../configuration-server/site-commands.ts";
import { replicaFolder } from "../replicas/replica-folder.ts";
import type { ReplicaHostConfiguration } from "../replicas/replica-host-configuration.ts";
import { writeDurably } from "../site/durable-file.ts";
import { cacheBytesOf } from "../site/make-site.ts";
import type { StorageAccess } from "../site/role-configurations.ts";
import type { SiteFolder, TokenRole } from "../site/site-folder.ts";
import { CONTAINER, type Site } from "../site/site.ts";
import { createToken, writeCredentials } from "../vault/access-commands.ts";
import type { VaultConfiguration } from "../vault/vault-configuration.ts";
import { fileText } from "../vault-connection.ts";

/** What `osr up` calls the vault and the site that it makes: names for a first look, others can be added. */
const SUBSCRIPTION = "00000000-0000-0000-0000-000000000000";
const RESOURCE_GROUP = "osr";
const VAULT = "vault";
const SITE_NAME = "site";
const CONTEXT = "site";
const TOKEN_HOURS = 365 * 24;

/** Starts a role by its words and its configuration file; resolves when it is ready. */
export type StartRole = (name: string, configFile: string) => Promise<void>;

/**
 * Makes and starts replica host, vault, configuration server and process server of a whole site on this machine, each time what is still
 * missing: a run that was cut off is gone on with by the next one. Gives the vault's id. Order: whoever is asked runs before
 * who asks.
 */
export async function startControlPlane(
  options: UpOptions,
  { folder, site }: { readonly folder: SiteFolder; readonly site: Site },
  start: StartRole,
  signal: AbortSignal,
): Promise<{ readonly vaultId: Uuid; readonly contextsFile: string }> {
  const files = filesOf(folder);
  // PostgreSQL runs as a user of its own, who passes through; secrets are in folders of their own.
  chmodSync(folder.root, 0o711);
  writeReplicaHostConfiguration(options, folder, files);
  await start("replica-host", files.replicaHostConfig);
  writeVaultConfiguration(options, folder, files);
  await start("vault", files.vaultConfig);
  const context = await ensureAccess(options, files, signal);
  await ensureConfigurationServer(options, files);
  await start("configuration-server", files.serverConfig);
  await ensureProcessServer(options, folder, files);
  await start("process-server", folder.processServer.configFile);
  const contexts: Contexts = { current: CONTEXT, contexts: [context] };
  writeDurably(files.contexts, `${JSON.stringify(contexts, null, 2)}\n`, 0o600);
  const vaultId = (await registeredVault(files.serverConfig)) ?? site.vaultId;
  return { vaultId, contextsFile: files.contexts };
}

type Files = ReturnType<typeof filesOf>;

function filesOf(folder: SiteFolder): {
  readonly replicaHostConfig: string;
  readonly replicaHostSocket: string;
  readonly vaultConfig: string;
  readonly vaultAuthority: string;
  readonly adminToken: string;
  readonly credentials: string;
  readonly serverFolder: string;
  readonly serverConfig: string;
  readonly enrolmentToken: string;
  readonly processServerIdentity: string;
  readonly contexts: string;
} {
  const vault = join(folder.root, "vault");
  const serverFolder = join(folder.root, "configuration-server");
  const secrets = join(folder.root, "secrets");
  return {
    replicaHostConfig: join(folder.root, "replica-host", "config.json"),
    replicaHostSocket: join(replicaFolder(folder.root), "host.sock"),
    vaultConfig: join(vault, "config.json"),
    vaultAuthority: join(vault, "authority.pem"),
    adminToken: join(secrets, "administrator.token"),
    credentials: join(secrets, "vault.credentials"),
    serverFolder,
    serverConfig: join(serverFolder, "config.json"),
    enrolmentToken: join(secrets, "process-server.token"),
    processServerIdentity: join(folder.processServer.root, "identity.json"),
    contexts: join(folder.root, "contexts.json"),
  };
}

function writeReplicaHostConfiguration(options: UpOptions, folder: SiteFolder, files: Files): void {
  const configuration: ReplicaHostConfiguration = {
    socket: files.replicaHostSocket,
    directory: replicaFolder(folder.root),
    storageAccount: storageAccess(options, folder, "reader"),
    vaultKeyFile: folder.vaultKeyFile,
  };
  writeConfiguration(files.replicaHostConfig, configuration);
}

function writeVaultConfiguration(options: UpOptions, folder: SiteFolder, files: Files): void {
  mkdirSync(join(folder.root, "vault"), { recursive: true, mode: 0o711 });
  chmodSync(join(folder.root, "vault"), 0o711);
  const configuration: VaultConfiguration = {
    listen: {
      host: options.host,
      port: options.vaultPort,
      names: [options.host, ...options.processServerName],
    },
    directory: ".",
    storageAccount: storageAccess(options, folder, "maintainer"),
    ingestTokenFile: folder.tokenFile("ingest"),
    readerTokenFile: folder.tokenFile("reader"),
    vaultKeyFile: folder.vaultKeyFile,
    replicaHostSocket: files.replicaHostSocket,
  };
  writeConfiguration(files.vaultConfig, configuration);
}

function storageAccess(options: UpOptions, folder: SiteFolder, role: TokenRole): StorageAccess {
  return {
    endpoint: `https://${options.host}:${options.storageAccountPort}`,
    container: CONTAINER,
    tokenFile: folder.tokenFile(role),
    authority: folder.authorityFile,
  };
}

/** The administrator's token, and the vault as a resource. */
async function ensureAccess(
  options: UpOptions,
  files: Files,
  signal: AbortSignal,
): Promise<Context> {
  const context: Context = {
    name: CONTEXT,
    vaultUrl: `https://${options.host}:${options.vaultPort}`,
    authorityFile: files.vaultAuthority,
    tokenFile: files.adminToken,
    subscription: SUBSCRIPTION,
    resourceGroup: RESOURCE_GROUP,
    vault: VAULT,
  };
  if (!existsSync(files.adminToken)) await writeAdministratorToken(files);
  try {
    await ensureVault(context, files, signal);
  } catch (error) {
    if (!isTokenRefused(error)) throw error;
    // It has run out, or the vault was rebuilt: rights are not restored, they are given anew.
    await writeAdministratorToken(files);
    await ensureVault(context, files, signal);
  }
  return context;
}

async function writeAdministratorToken(files: Files): Promise<void> {
  await createToken({
    config: files.vaultConfig,
    name: "administrator",
    role: "Owner",
    scope: "/",
    hours: TOKEN_HOURS,
    out: files.adminToken,
  });
}

async function ensureVault(context: Context, files: Files, signal: AbortSignal): Promise<void> {
  const { recoveryServices } = createManagement(
    {
      vaultUrl: context.vaultUrl,
      authorityPem: fileText(files.vaultAuthority),
      token: () => fileText(files.adminToken).trim(),
    },
    {
      ...context,
      clock: systemClock,
      scheduler: systemScheduler,
      signal,
      narrate: () => undefined,
    },
  );
  const body = { location: "local", sku: { name: "RS0", tier: "Standard" }, properties: {} };
  await asking(() =>
    recoveryServices.vaults.beginCreateOrUpdateAndWait(RESOURCE_GROUP, VAULT, body),
  );
}

function isTokenRefused(error: unknown): boolean {
  if (!(error instanceof OsrError)) return false;
  const { statusCode }: { statusCode?: unknown } = error.details;
  return statusCode === 401;
}

async function ensureConfigurationServer(options: UpOptions, files: Files): Promise<void> {
  if (!existsSync(files.serverConfig))
    await initConfigurationServer({
      directory: files.serverFolder,
      host: options.host,
      port: options.configurationServerPort,
      name: [options.host, ...options.processServerName],
    });
  if ((await registeredVault(files.serverConfig)) !== undefined) return;
  await writeCredentials({ config: files.vaultConfig, vault: VAULT, out: files.credentials });
  await registerSite({
    config: files.serverConfig,
    credentials: files.credentials,
    name: SITE_NAME,
  });
  rmSync(files.credentials);
}

/** The id of the vault that the configuration server is registered with, or undefined. */
async function registeredVault(serverConfig: string): Promise<Uuid | undefined> {
  using open = await openConfiguredSite(serverConfig);
  return open.site.state.kept(FABRIC_IDENTITY, fabricIdentityShape)?.vaultId;
}

async function ensureProcessServer(
  options: UpOptions,
  folder: SiteFolder,
  files: Files,
): Promise<void> {
  const addresses = [options.host, ...options.processServerName];
  mkdirSync(folder.processServer.root, { recursive: true, mode: 0o700 });
  if (!existsSync(files.processServerIdentity)) {
    rmSync(files.enrolmentToken, { force: true });
    await createTokenFile({
      config: files.serverConfig,
      role: "process-server",
      address: `${options.host}:${options.configurationServerPort}`,
      validHours: 1,
      out: files.enrolmentToken,
    });
    await enrolProcessServer({
      token: files.enrolmentToken,
      out: files.processServerIdentity,
      address: addresses,
    });
    rmSync(files.enrolmentToken);
  }
  const configuration = {
    identityFile: files.processServerIdentity,
    listen: { host: options.host, port: options.processServerPort },
    address: { host: addresses.at(-1), port: options.processServerPort },
    spoolDirectory: folder.processServer.spool,
    cacheBytesMax: cacheBytesOf(folder.root),
    metricsPort: 0,
  };
  writeConfiguration(folder.processServer.configFile, configuration);
}

function writeConfiguration(path: string, configuration: object): void {
  writeDurably(path, `${JSON.stringify(configuration, null, 2)}\n`, 0o600);
}
