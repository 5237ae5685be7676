import { join } from "node:path";

/** Where a site keeps what: one folder, made by `osr up`. */
export type SiteFolder = {
  readonly root: string;
  /** Ids and addresses; no secrets. */
  readonly siteFile: string;
  /** 32 bytes in hex: opens everything in the storage account. */
  readonly vaultKeyFile: string;
  readonly authorityFile: string;
  readonly authorityKeyFile: string;
  readonly tokenFile: (role: TokenRole) => string;
  readonly storageAccount: RoleFolder & { readonly data: string; readonly tokensFile: string };
  readonly processServer: RoleFolder & { readonly spool: string };
};

export type RoleFolder = {
  readonly root: string;
  readonly configFile: string;
  readonly certificateFile: string;
  readonly privateKeyFile: string;
};

export const TOKEN_ROLES = ["ingest", "reader", "maintainer"] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

export function siteFolder(root: string): SiteFolder {
  const secrets = join(root, "secrets");
  const role = (name: string): RoleFolder => ({
    root: join(root, name),
    configFile: join(root, name, "config.json"),
    certificateFile: join(root, name, "certificate.pem"),
    privateKeyFile: join(root, name, "private-key.pem"),
  });
  const storageAccount = role("storage-account");
  const processServer = role("process-server");
  return {
    root,
    siteFile: join(root, "site.json"),
    vaultKeyFile: join(secrets, "vault.key"),
    authorityFile: join(root, "authority.pem"),
    authorityKeyFile: join(secrets, "authority-key.pem"),
    tokenFile: (tokenRole) => join(secrets, `${tokenRole}.token`),
    storageAccount: {
      ...storageAccount,
      data: join(storageAccount.root, "data"),
      tokensFile: join(storageAccount.root, "tokens.json"),
    },
    processServer: { ...processServer, spool: join(processServer.root, "spool") },
  };
}
