import { existsSync } from "node:fs";

import type { RepositoryOptions } from "@osr/cli/program";
import { OsrError, defineErrors } from "@osr/base/errors";
import { type Uuid, isUuid } from "@osr/base/uuid";
import { groupKeyOf } from "@osr/repository/key-schedule";
import type { DataKey } from "@osr/repository/key-schedule";
import type { ObjectStore } from "@osr/repository/object-store";
import { readDataKey } from "@osr/repository/wrapped-key";

import { CONTAINER, readSite } from "../site/site.ts";
import { readVaultKey } from "../site/vault-key-file.ts";
import { roleLog } from "../role-log.ts";
import { openStore } from "./open-store.ts";

const ERRORS = defineErrors({
  REPOSITORY_OPTIONS_MISSING: {
    retryable: false,
    hint: "Give --site, or --storage, --vault and --key (and --token-file where --storage is an address).",
  },
});

/** The storage account and the vault key: all that is needed to read recovery points. */
export type Repository = Disposable & {
  readonly store: ObjectStore;
  readonly vaultId: Uuid;
  /** Absent where only what needs no key is wanted. */
  readonly vaultKey: Buffer | undefined;
  /** Those that were read already: several steps of a command need the key of a disk. */
  readonly dataKeys: Map<Uuid, Promise<DataKey>>;
};

/** Opens what the options of a command name. Throws REPOSITORY_OPTIONS_MISSING and what the files' readers throw. */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const given = options.site === undefined ? options : { ...ofSite(options.site), ...options };
  const { storage, vault, tokenFile } = given;
  if (storage === undefined || !isUuid(vault))
    throw new OsrError(ERRORS.REPOSITORY_OPTIONS_MISSING, "--storage or --vault is missing");
  const vaultKey = given.key === undefined ? undefined : readVaultKey(given.key);
  if (!storage.startsWith("https://")) {
    // Who reads over the network does not wait for it to be loaded.
    const { openDirectoryStore } = await import("@osr/repository/directory-store");
    const store = await openDirectoryStore(storage, { access: "read" });
    return {
      store,
      vaultId: vault,
      vaultKey,
      dataKeys: new Map(),
      [Symbol.dispose]: () => undefined,
    };
  }
  if (tokenFile === undefined)
    throw new OsrError(ERRORS.REPOSITORY_OPTIONS_MISSING, "--token-file is missing");
  const { container = CONTAINER, authority } = given;
  const access = { endpoint: storage, container, tokenFile };
  const open = openStore(
    authority === undefined ? access : { ...access, authority },
    roleLog("repository"),
  );
  return {
    store: open.store,
    vaultId: vault,
    vaultKey,
    dataKeys: new Map(),
    [Symbol.dispose]: () => open[Symbol.dispose](),
  };
}

function ofSite(root: string): RepositoryOptions {
  const { folder, site } = readSite(root);
  return {
    storage: `https://${site.host}:${site.storageAccountPort}`,
    tokenFile: folder.tokenFile("reader"),
    authority: folder.authorityFile,
    vault: site.vaultId,
    ...(existsSync(folder.vaultKeyFile) ? { key: folder.vaultKeyFile } : {}),
  };
}

/** The vault key, for what cannot be done without it. Throws REPOSITORY_OPTIONS_MISSING. */
export function vaultKeyOf(repository: Repository): Buffer {
  if (repository.vaultKey === undefined)
    throw new OsrError(ERRORS.REPOSITORY_OPTIONS_MISSING, "--key is missing");
  return repository.vaultKey;
}

export function groupKeysOf(repository: Repository): (groupId: Uuid) => Buffer {
  const vaultKey = vaultKeyOf(repository);
  return (groupId) => groupKeyOf(vaultKey, groupId);
}

export function dataKeyOf(repository: Repository, diskId: Uuid): Promise<DataKey> {
  const { store, vaultId, dataKeys } = repository;
  const known = dataKeys.get(diskId);
  if (known !== undefined) return known;
  const reading = readDataKey(store, { vaultId, vaultKey: vaultKeyOf(repository), diskId });
  dataKeys.set(diskId, reading);
  // Whoever asks later asks the storage account again.
  reading.catch(() => dataKeys.delete(diskId));
  return reading;
}
