import { type Shape, object, text } from "@osr/base/json-shape";

import { type StorageAccess, storageAccessShape } from "../site/role-configurations.ts";

const path: Shape<string> = text(4096);

/** Configuration of a replica host; relative paths are relative to the file's folder. */
export type ReplicaHostConfiguration = {
  /** Where the vault reaches it. */
  readonly socket: string;
  /** Where failed-over machines live; a short absolute path, since unix sockets are in it. */
  readonly directory: string;
  /** As reader. */
  readonly storageAccount: StorageAccess;
  readonly vaultKeyFile: string;
};

export const replicaHostConfigurationShape: Shape<ReplicaHostConfiguration> =
  object<ReplicaHostConfiguration>({
    socket: path,
    directory: path,
    storageAccount: storageAccessShape,
    vaultKeyFile: path,
  });
