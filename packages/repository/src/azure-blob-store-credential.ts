import type { Agent } from "node:http";

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

export type Secret = Pick<SecretFile, "read">;

export type AzureEndpoint = {
  /** `https://host[:port][/account]`. */
  readonly endpoint: string;
  readonly container: string;
  readonly credential: AzureCredential;
  /** Connections, with CA bundle and proxy: createHttpsAgent of @osr/https. */
  readonly agent: Agent;
};

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

export function containerUrl({ endpoint, container }: AzureEndpoint): string {
  return `${endpoint.replace(/\/+$/, "")}/${container}`;
}

export function secretFile(credential: AzureCredential): Secret {
  return "path" in credential
    ? new SecretFile(credential.path)
    : { read: () => Promise.resolve(credential.text) };
}

export async function secretOf(file: Secret): Promise<string> {
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
