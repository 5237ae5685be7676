import { type Shape, integer, object, optional, text, uuidText } from "@osr/base/json-shape";
import { KIB, MIB } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

const path: Shape<string> = text(4096);
const port: Shape<number> = integer(0, 65_535);

/** Where a role listens and who it is; paths to PEM files. */
export type ListenConfiguration = {
  readonly host: string;
  readonly port: number;
  readonly certificate: string;
  readonly privateKey: string;
};

const listenShape = object<ListenConfiguration>({
  host: text(255),
  port,
  certificate: path,
  privateKey: path,
});

export type StorageAccountConfiguration = {
  readonly listen: ListenConfiguration;
  readonly directory: string;
  readonly tokensFile: string;
};

export const storageAccountShape: Shape<StorageAccountConfiguration> =
  object<StorageAccountConfiguration>({ listen: listenShape, directory: path, tokensFile: path });

/** How a role reaches the storage account. */
export type StorageAccess = {
  readonly endpoint: string;
  readonly container: string;
  readonly tokenFile: string;
  readonly authority?: string;
  readonly proxyUrl?: string;
  /** So that replication leaves room on a shared line; absent: as fast as it goes. */
  readonly uploadBytesPerSecond?: number;
};

export const storageAccessShape = object<StorageAccess>({
  endpoint: text(2048),
  container: text(63),
  tokenFile: path,
  authority: optional(path),
  proxyUrl: optional(text(2048)),
  uploadBytesPerSecond: optional(integer(64 * KIB)),
});

export type ProcessServerConfiguration = {
  readonly listen: ListenConfiguration;
  /** CA that signed the certificates of the agents. */
  readonly authority: string;
  readonly spoolDirectory: string;
  readonly cacheBytesMax?: number;
  readonly metricsPort: number;
  readonly storageAccount: StorageAccess;
  readonly vaultId: Uuid;
  /** Until there is a vault, the process server of `osr up` makes the data keys itself. */
  readonly vaultKeyFile: string;
};

export const processServerShape: Shape<ProcessServerConfiguration> =
  object<ProcessServerConfiguration>({
    listen: listenShape,
    authority: path,
    spoolDirectory: path,
    cacheBytesMax: optional(integer(64 * MIB)),
    metricsPort: port,
    storageAccount: storageAccessShape,
    vaultId: uuidText,
    vaultKeyFile: path,
  });

/** Of a process server that has joined a configuration server: keys, vault and storage account come from there. */
export type AssignedProcessServerConfiguration = {
  /** Written by `osr process-server enrol`. */
  readonly identityFile: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** As agents reach it. */
  readonly address: { readonly host: string; readonly port: number };
  readonly spoolDirectory: string;
  readonly cacheBytesMax?: number;
  readonly metricsPort: number;
  readonly proxyUrl?: string;
  readonly uploadBytesPerSecond?: number;
};

export const assignedProcessServerShape: Shape<AssignedProcessServerConfiguration> =
  object<AssignedProcessServerConfiguration>({
    identityFile: path,
    listen: object<{ host: string; port: number }>({ host: text(255), port }),
    address: object<{ host: string; port: number }>({
      host: text(255),
      port: integer(1, 65_535),
    }),
    spoolDirectory: path,
    cacheBytesMax: optional(integer(64 * MIB)),
    metricsPort: port,
    proxyUrl: optional(text(2048)),
    uploadBytesPerSecond: optional(integer(64 * KIB)),
  });
