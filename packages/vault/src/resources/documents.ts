import { type JsonObject, jsonObject } from "@osr/base/json-value";
import type { Uuid } from "@osr/base/uuid";

import { badRequest, notFound } from "../arm/arm-error.ts";
import { sameName } from "../arm/arm-path.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import { foundFabric } from "./fabric-row.ts";
import { resourceBody } from "./resource-body.ts";

/** A kind of resource that the vault keeps as its clients wrote it. */
export type DocumentKind = {
  /** Template of one resource: `V/replicationRecoveryPlans/{recoveryPlanName}`. */
  readonly path: string;
  /** List of all of the vault, where it is not the path's own collection. */
  readonly listPath?: string;
  readonly action: string;
  /** For summaries: "recovery plan". */
  readonly noun: string;
  /** Job kinds of a change and a removal; absent: changes are answered at once with the resource. */
  readonly jobs?: { readonly write: string; readonly remove: string; readonly targetType: string };
  readonly mayPatch: boolean;
  readonly mayDelete: boolean;
  /** The one resource that is there before anybody has written it. */
  readonly initial?: { readonly name: string; readonly properties: JsonObject };
  /** Throws ArmError 400 where the properties (of a patch: all of them, changed) are wrong. */
  readonly check: (properties: JsonObject) => void;
  /** Properties as shown. */
  readonly view: (properties: JsonObject, name: string) => JsonObject;
};

type Row = { readonly path: string; readonly name: string; readonly properties: JsonObject };

export function documentRoutes(kind: DocumentKind, context: VaultContext): ResourceRoute[] {
  const collection = kind.path.slice(0, kind.path.lastIndexOf("/"));
  const lists = [collection, ...(kind.listPath === undefined ? [] : [kind.listPath])];
  return [
    ...lists.map((path): ResourceRoute => ({
      method: "GET",
      path,
      action: `${kind.action}/read`,
      summary: `List ${kind.noun}s`,
      read: (request, database) => listDocuments(request, database, kind, path === collection),
    })),
    {
      method: "GET",
      path: kind.path,
      action: `${kind.action}/read`,
      summary: `Show a ${kind.noun}`,
      read: async (request, database) => ok(await shown(request, database, kind)),
    },
    {
      method: "PUT",
      path: kind.path,
      action: `${kind.action}/write`,
      summary: `Create or replace a ${kind.noun}`,
      write: (request, tx) => writeDocument(request, tx, kind, context, {}),
    },
    ...(kind.mayPatch ? [patchRoute(kind, context)] : []),
    ...(kind.mayDelete ? [deleteRoute(kind, context)] : []),
  ];
}

function patchRoute(kind: DocumentKind, context: VaultContext): ResourceRoute {
  return {
    method: "PATCH",
    path: kind.path,
    action: `${kind.action}/write`,
    summary: `Change a ${kind.noun}`,
    write: async (request, tx) => {
      const { properties } = await foundDocument(request, tx, kind);
      return writeDocument(request, tx, kind, context, properties);
    },
  };
}

function deleteRoute(kind: DocumentKind, context: VaultContext): ResourceRoute {
  return {
    method: "DELETE",
    path: kind.path,
    action: `${kind.action}/delete`,
    summary: `Delete a ${kind.noun}`,
    write: async (request, tx) => {
      await parentOf(request, tx);
      const { numDeletedRows } = await tx
        .deleteFrom("vault_document")
        .where("vault_id", "=", request.vault.id)
        .where("key", "=", keyOf(pathOf(request)))
        .executeTakeFirst();
      if (numDeletedRows === 0n || kind.jobs === undefined) return { status: 204 };
      return accepted(await recorded(request, tx, context, kind.jobs.remove, kind));
    },
  };
}

async function writeDocument(
  request: VaultRequest,
  tx: VaultTransaction,
  kind: DocumentKind,
  context: VaultContext,
  before: JsonObject,
): Promise<ArmReply | ArmAccepted> {
  await parentOf(request, tx);
  const sent = jsonObject(jsonObject(request.body)?.["properties"]);
  if (sent === undefined) throw badRequest("properties", "must be an object");
  const properties = { ...before, ...sent };
  kind.check(properties);
  const path = pathOf(request);
  const now = context.clock.unixMs();
  const text = JSON.stringify(properties);
  await tx
    .insertInto("vault_document")
    .values({
      vault_id: request.vault.id,
      key: keyOf(path),
      path: path.map(encodeURIComponent).join("/"),
      collection: path.at(-2)?.toLowerCase() ?? "",
      name: path.at(-1) ?? "",
      properties: text,
      created_at: now,
      changed_at: now,
    })
    .onConflict((conflict) =>
      conflict.columns(["vault_id", "key"]).doUpdateSet({ properties: text, changed_at: now }),
    )
    .execute();
  if (kind.jobs !== undefined)
    return accepted(await recorded(request, tx, context, kind.jobs.write, kind));
  return ok(await shown(request, tx, kind));
}

function recorded(
  request: VaultRequest,
  tx: VaultTransaction,
  { jobs }: VaultContext,
  job: string,
  { noun, jobs: words }: DocumentKind,
): Promise<Uuid> {
  const verb = job === words?.remove ? "Delete" : "Save";
  return jobs.record(tx, {
    vaultId: request.vault.id,
    kind: job,
    friendlyName: `${verb} ${noun}`,
    input: {},
    target: {
      id: request.resourcePath,
      name: pathOf(request).at(-1) ?? "",
      instanceType: words?.targetType ?? "Unknown",
    },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
}

async function listDocuments(
  request: VaultRequest,
  database: VaultDatabase,
  kind: DocumentKind,
  isBelowPath: boolean,
): Promise<ArmReply> {
  await parentOf(request, database);
  const page = pageOf(request);
  const [after] = page.after ?? [];
  const path = pathOf(request);
  const parent = path.length === 1 ? "" : keyOf(path.slice(0, -1));
  let query = database
    .selectFrom("vault_document")
    .select(["key", "path", "name", "properties"])
    .where("vault_id", "=", request.vault.id)
    .where("collection", "=", path.at(-1)?.toLowerCase() ?? "")
    .orderBy("key")
    .limit(page.size + 1);
  if (typeof after === "string") query = query.where("key", ">", after);
  if (isBelowPath)
    query = query.where((where) => where.fn<boolean>("starts_with", ["key", where.val(parent)]));
  const rows = await query.execute();
  const { initial } = kind;
  const isMissing =
    initial !== undefined &&
    after === undefined &&
    !rows.some(({ name }) => sameName(name, initial.name));
  return pageReply(
    request,
    page,
    isMissing
      ? [{ key: "", ...initialRow([...path, initial.name], initial.properties) }, ...rows]
      : rows,
    (row) => bodyOf(request, row, kind),
    (row) => [row.key],
  );
}

async function shown(
  request: VaultRequest,
  database: VaultDatabase,
  kind: DocumentKind,
): Promise<JsonObject> {
  return bodyOf(request, await foundDocument(request, database, kind), kind);
}

async function foundDocument(
  request: VaultRequest,
  database: VaultDatabase,
  kind: DocumentKind,
): Promise<Row> {
  await parentOf(request, database);
  const path = pathOf(request);
  const row = await database
    .selectFrom("vault_document")
    .select(["path", "name", "properties"])
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", keyOf(path))
    .executeTakeFirst();
  if (row !== undefined) return row;
  const name = path.at(-1) ?? "";
  const { initial } = kind;
  if (initial === undefined || !sameName(initial.name, name))
    throw notFound(`${kind.noun} ${name}`);
  return initialRow([...path.slice(0, -1), initial.name], initial.properties);
}

function initialRow(path: readonly string[], properties: JsonObject): Row {
  return { path: path.map(encodeURIComponent).join("/"), name: path.at(-1) ?? "", properties };
}

function bodyOf(request: VaultRequest, row: Row, kind: DocumentKind): JsonObject {
  const path = row.path.split("/").map(decodeURIComponent);
  return resourceBody(request.vault, path, kind.view(row.properties, row.name));
}

/** A resource below a fabric needs that fabric. */
async function parentOf(request: VaultRequest, database: VaultDatabase): Promise<void> {
  if (request.parameters["fabricName"] !== undefined) await foundFabric(request, database);
}

/** Segments below the vault. */
function pathOf(request: VaultRequest): readonly string[] {
  return request.segments.slice(8);
}

function keyOf(path: readonly string[]): string {
  return path.map((part) => encodeURIComponent(part.toLowerCase())).join("/");
}
