import { type Shape, integer, list, object, optional, text } from "@osr/base/json-shape";

import { type StorageAccess, storageAccessShape } from "../site/role-configurations.ts";

const path: Shape<string> = text(4096);
const NAMES_MAX = 64;

/** Configuration of a vault; relative paths are relative to the file's folder. */
export type VaultConfiguration = {
  readonly listen: {
    readonly host: string;
    readonly port: number;
    /** Host names and addresses under which users and configuration servers reach it; the first one is the one that credentials name. */
    readonly names: readonly string[];
    /** A certificate of the administrator's; absent: one of the vault's own authority. */
    readonly certificate?: string | undefined;
    readonly privateKey?: string | undefined;
  };
  /** The vault's authority, its own certificate and the embedded PostgreSQL live here. */
  readonly directory: string;
  /** File with the address of an external PostgreSQL (a secret); absent: the embedded one. DATABASE_URL goes before both. */
  readonly databaseUrlFile?: string | undefined;
  /** As maintainer. */
  readonly storageAccount: StorageAccess;
  /** Tokens that the vault hands on to process servers and to readers. */
  readonly ingestTokenFile: string;
  readonly readerTokenFile: string;
  readonly vaultKeyFile: string;
  /** Of the replica host, which runs failed-over machines (`osr replica-host run`): they outlive the vault. */
  readonly replicaHostSocket: string;
  /** What clients are told to wait between polls of a job. */
  readonly retryAfterSeconds?: number | undefined;
};

export const vaultConfigurationShape: Shape<VaultConfiguration> = object<VaultConfiguration>({
  listen: object<VaultConfiguration["listen"]>({
    host: text(255),
    port: integer(0, 65_535),
    names: list(text(255), NAMES_MAX),
    certificate: optional(path),
    privateKey: optional(path),
  }),
  directory: path,
  databaseUrlFile: optional(path),
  storageAccount: storageAccessShape,
  ingestTokenFile: path,
  readerTokenFile: path,
  vaultKeyFile: path,
  replicaHostSocket: path,
  retryAfterSeconds: optional(integer(0, 300)),
});
