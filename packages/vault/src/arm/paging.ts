import type { JsonObject } from "@osr/base/json-value";

import { badRequest } from "./arm-error.ts";
import type { ArmReply, ArmRequest } from "./resource-routes.ts";
import { ok } from "./resource-routes.ts";

export const PAGE_SIZE_DEFAULT = 100;
const PAGE_SIZE_MAX = 1000;

/** Where a page begins (after the row whose keys the token holds) and how many rows it has. */
export type Page = {
  readonly size: number;
  readonly after: readonly (string | number)[] | undefined;
};

/** `$top`/`$take` and `$skipToken`/`skipToken` of a request. Throws ArmError 400. */
export function pageOf(request: ArmRequest): Page {
  const size = Number(request.query.get("$take") ?? request.query.get("$top") ?? PAGE_SIZE_DEFAULT);
  if (!Number.isInteger(size) || size < 1)
    throw badRequest("$take", "must be a whole number above 0");
  const token = request.query.get("$skiptoken") ?? request.query.get("skiptoken");
  return {
    size: Math.min(size, PAGE_SIZE_MAX),
    after: token === undefined || token === "" ? undefined : parseToken(token),
  };
}

function parseToken(token: string): readonly (string | number)[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
    const isKeys = Array.isArray(value) && value.length > 0 && value.length <= 3;
    if (isKeys && value.every((key) => typeof key === "string" || Number.isSafeInteger(key)))
      return value as (string | number)[];
  } catch {
    // Refused below.
  }
  throw badRequest("$skipToken", "is not one that this vault has given");
}

/**
 * A page of a list. `rows` has one row more than the page, where there is more; `keysOf` gives the keys by which the list is ordered. nextLink is absolute
 * and has an api-version: clients take it as it is.
 */
export function pageReply<Row>(
  request: ArmRequest,
  page: Page,
  rows: readonly Row[],
  bodyOf: (row: Row) => JsonObject,
  keysOf: (row: Row) => readonly (string | number)[],
): ArmReply {
  const shown = rows.slice(0, page.size);
  const last = rows.length > page.size ? shown.at(-1) : undefined;
  const nextLink = last === undefined ? null : linkAfter(request, keysOf(last));
  return ok({ value: shown.map(bodyOf), nextLink });
}

function linkAfter(request: ArmRequest, keys: readonly (string | number)[]): string {
  const query = new URLSearchParams(
    [...request.query].filter(([name]) => !name.endsWith("skiptoken")),
  );
  query.set("$skipToken", Buffer.from(JSON.stringify(keys)).toString("base64url"));
  const path = request.resourcePath.split("/").map(encodeURIComponent).join("/");
  return `${request.baseUrl}${path}?${query.toString()}`;
}
