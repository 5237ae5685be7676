import type { Agent } from "node:http";

import type { TokenCredential } from "@azure/core-auth";
import type { PipelineOptions } from "@azure/core-rest-pipeline";
import {
  AnonymousCredential,
  ContainerClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";

import { OsrError, messageOf } from "@osr/base/errors";

import type { DirectAccess } from "./azure-blob-store-request.ts";
import { STORE_ERRORS } from "./object-store.ts";
import { SecretFile } from "./secret-file.ts";

/** What proves to the storage account who we are. Files are read again when they change. */
export type AzureCredential =
  /** A bearer token or a shared access signature that is in memory only. */
  | { readonly kind: "token"; readonly text: string }
  | { readonly kind: "sas"; readonly text: string }
  /** A bearer token: our own `storage-account` role. */
  | { readonly kind: "token-file"; readonly path: string }
  /** A shared access signature, with or without its question mark. */
  | { readonly kind: "sas-file"; readonly path: string }
  /** The account's key, in base64. */
  | { readonly kind: "key-file"; readonly accountName: string; readonly path: string };

type Secret = Pick<SecretFile, "read">;

export type AzureEndpoint = {
  /** `https://host[:port][/account]`. */
  readonly endpoint: string;
  readonly container: string;
  readonly credential: AzureCredential;
  /** Connections, with CA bundle and proxy: createHttpsAgent of @osr/https. */
  readonly agent: Agent;
};

/** A function that gives the container's client with the credential as it is now. */
export function containerOf(options: AzureEndpoint): () => Promise<ContainerClient> {
  const url = containerUrl(options);
  const settings = pipelineOf(options.agent);
  const { credential } = options;
  const file = secretFile(credential);
  if (credential.kind === "token-file" || credential.kind === "token") {
    const client = new ContainerClient(url, tokenOf(file), settings);
    return () => Promise.resolve(client);
  }
  let secret: string | undefined;
  let client: ContainerClient | undefined;
  return async () => {
    const current = await secretOf(file);
    if (client === undefined || current !== secret) {
      client =
        credential.kind === "sas-file" || credential.kind === "sas"
          ? new ContainerClient(
              `${url}?${current.replace(/^\?/, "")}`,
              new AnonymousCredential(),
              settings,
            )
          : new ContainerClient(
              url,
              new StorageSharedKeyCredential(credential.accountName, current),
              settings,
            );
      secret = current;
    }
    return client;
  };
}

/**
 * A function that gives what requests about objects carry, with the credential as it is now. Undefined where they are left to
 * the SDK: it signs with an account's key, and refuses to send a token in the clear.
 */
export function directAccessOf(options: AzureEndpoint): (() => Promise<DirectAccess>) | undefined {
  const url = containerUrl(options);
  const { credential } = options;
  const secret = secretFile(credential);
  switch (credential.kind) {
    case "key-file":
      return undefined;
    case "sas":
    case "sas-file":
      return async () => ({ url, query: (await secretOf(secret)).replace(/^\?/, "") });
    case "token":
    case "token-file":
      if (!url.startsWith("https://")) return undefined;
      return async () => ({ url, query: "", bearerToken: await secretOf(secret) });
  }
}

function containerUrl({ endpoint, container }: AzureEndpoint): string {
  return `${endpoint.replace(/\/+$/, "")}/${container}`;
}

function secretFile(credential: AzureCredential): Secret {
  return "path" in credential
    ? new SecretFile(credential.path)
    : { read: () => Promise.resolve(credential.text) };
}

/** Every retry is ours, and nothing is read from the environment: an agent makes the SDK ignore its proxy variables. */
function pipelineOf(agent: Agent): StoragePipelineOptions & PipelineOptions {
  return {
    agent,
    retryOptions: { maxTries: 1 },
    redirectOptions: { maxRetries: 0 },
  };
}

function tokenOf(file: Secret): TokenCredential {
  return {
    // A token that is always about to expire makes the SDK ask each time, so that a renewed file counts at once.
    getToken: async () => ({ token: await secretOf(file), expiresOnTimestamp: 0 }),
  };
}

async function secretOf(file: Secret): Promise<string> {
  try {
    return await file.read();
  } catch (cause) {
    throw new OsrError(
      STORE_ERRORS.STORE_FORBIDDEN,
      `the credential for the storage account cannot be read: ${messageOf(cause)}`,
      { cause },
    );
  }
}
