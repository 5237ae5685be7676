import { OsrError } from "@osr/base/errors";

import { MANAGEMENT_ERRORS } from "./management-errors.ts";
import type { Management } from "./management.ts";
import { asking } from "./requests.ts";

const API_VERSION = "2023-06-01";

/**
 * A request for what ARM has no word for: the vault's own provider, through the same client, with its credential, retries and
 * trust. `path` is below the vault. Throws REQUEST_REFUSED.
 */
export async function ownRequest(
  management: Management,
  method: "GET" | "PUT" | "POST" | "DELETE",
  path: string,
  body?: object,
): Promise<Readonly<Record<string, unknown>>> {
  const { siteRecovery, vaultUrl, subscription, resourceGroup, vault, signal } = management;
  const below = `/subscriptions/${subscription}/resourceGroups/${resourceGroup}/providers/Microsoft.RecoveryServices/vaults/${vault}/${path}`;
  // As Microsoft's clients, it takes a while to load; commands that need no vault don't wait for it.
  const { createPipelineRequest } = await import("@azure/core-rest-pipeline");
  const request = createPipelineRequest({
    url: `${vaultUrl}${below}?api-version=${API_VERSION}`,
    method,
    abortSignal: signal,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  request.headers.set("Content-Type", "application/json");
  const reply = await asking(() => siteRecovery.sendRequest(request));
  const parsed = parsedText(reply.bodyAsText ?? "");
  if (reply.status < 300) return parsed;
  const { error } = parsed as { readonly error?: { code?: string; message?: string } };
  throw new OsrError(
    MANAGEMENT_ERRORS.REQUEST_REFUSED,
    `${reply.status} ${error?.code ?? "no code"}: ${error?.message ?? ""}`,
  );
}

function parsedText(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
