import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { sql } from "kysely";

import { ArmError, notFound } from "../arm/arm-error.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  type WriteRoute,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { recordEvent } from "../events/record-event.ts";
import type { FabricItems } from "../fabric/desired-items.ts";
import { CHECK_CONSISTENCY, REFRESH_SERVER } from "../fabric/fabric-operations.ts";
import type { VaultContext } from "../vault-context.ts";
import { fabricBody, fabricErrors, isSilent } from "./fabric-body.ts";
import { type FabricRow, fabricsOf, foundFabric } from "./fabric-row.ts";
import { resourceBody } from "./resource-body.ts";

const F = "V/replicationFabrics/{fabricName}";
const P = `${F}/replicationRecoveryServicesProviders/{providerName}`;
const ACTION = "Microsoft.RecoveryServices/vaults/replicationFabrics";
const PROVIDER_ACTION = `${ACTION}/replicationRecoveryServicesProviders`;
const route = routesOf(ACTION);
const providerRoute = routesOf(PROVIDER_ACTION);

/** Fabrics and their providers. A fabric comes by registration of its configuration server, not by this API. */
export function fabricRoutes(context: VaultContext, items: FabricItems): ResourceRoute[] {
  const { clock } = context;
  const body = async (
    request: VaultRequest,
    database: VaultDatabase,
    row: FabricRow,
  ): Promise<JsonObject> => {
    const gateways = await gatewaysOf(database, row);
    const machines = await items.protectedMachines(database, row.id);
    return fabricBody(request.vault, row, gateways, machines, clock.unixMs());
  };
  const remove = (request: VaultRequest, tx: VaultTransaction): Promise<ArmReply | ArmAccepted> =>
    removeFabric(request, tx, context, items);
  return [
    route.read("V/replicationFabrics", "List fabrics", async (request, database) => {
      const rows = await fabricsOf(database, request.vault.id);
      const value: JsonObject[] = [];
      for (const row of rows) value.push(await body(request, database, row));
      return ok({ value, nextLink: null });
    }),
    route.read(
      F,
      "Show a fabric with its process servers, master targets and accounts",
      async (request, database) =>
        ok(await body(request, database, await foundFabric(request, database))),
    ),
    route.put(F, "Refused: a fabric comes by registration", refuseCreation),
    route.remove(F, "Remove a fabric without asking its configuration server", remove),
    route.act(F, "remove", "Remove a fabric", remove),
    ordered(
      `${F}/checkConsistency`,
      `${ACTION}/checkConsistency/action`,
      CHECK_CONSISTENCY,
      context,
    ),
    ...providerRoutes(context, remove),
  ];
}

function providerRoutes(context: VaultContext, removal: WriteRoute["write"]): ResourceRoute[] {
  const { clock } = context;
  const list = async (request: VaultRequest, rows: readonly FabricRow[]): Promise<ArmReply> =>
    Promise.resolve(
      ok({
        value: rows.map((row) => providerBody(request, row, clock.unixMs())),
        nextLink: null,
      }),
    );
  return [
    providerRoute.read(
      "V/replicationRecoveryServicesProviders",
      "List recovery services providers of the vault",
      async (request, database) => list(request, await fabricsOf(database, request.vault.id)),
    ),
    providerRoute.read(
      `${F}/replicationRecoveryServicesProviders`,
      "List recovery services providers of a fabric",
      async (request, database) => list(request, [await foundFabric(request, database)]),
    ),
    providerRoute.read(P, "Show a recovery services provider", async (request, database) =>
      ok(providerBody(request, await foundProvider(request, database), clock.unixMs())),
    ),
    providerRoute.put(P, "Refused: a provider comes with its fabric", refuseCreation),
    providerRoute.remove(P, "Remove a provider, and with it its fabric", removal),
    providerRoute.act(P, "remove", "Remove a provider, and with it its fabric", removal),
    ordered(
      `${P}/refreshProvider`,
      `${PROVIDER_ACTION}/refreshProvider/action`,
      REFRESH_SERVER,
      context,
    ),
  ];
}

/** A job that asks the configuration server to look at everything again. */
function ordered(
  path: string,
  action: string,
  kind: string,
  { jobs }: VaultContext,
): ResourceRoute {
  const friendlyName = kind === REFRESH_SERVER ? "Refresh server" : "Check consistency";
  return {
    method: "POST",
    path,
    action,
    summary: friendlyName,
    write: async (request, tx) => {
      const fabric =
        request.parameters["providerName"] === undefined
          ? await foundFabric(request, tx)
          : await foundProvider(request, tx);
      const jobId = await jobs.enqueue(tx, {
        vaultId: request.vault.id,
        kind,
        friendlyName,
        input: { fabricId: fabric.id },
        target: { id: fabric.id, name: fabric.name, instanceType: "Server" },
        resourcePath: request.resourcePath,
        activityId: request.activityId,
        isCancellable: true,
      });
      return accepted(jobId);
    },
  };
}

function refuseCreation(): Promise<never> {
  throw new ArmError(
    400,
    "FabricCreationNotSupported",
    "a fabric is made by registering its configuration server",
    "Make vault credentials (osr vault credentials) and register a configuration server with them.",
  );
}

async function removeFabric(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  items: FabricItems,
): Promise<ArmReply | ArmAccepted> {
  const key = (request.parameters["fabricName"] ?? "").toLowerCase();
  const provider = request.parameters["providerName"]?.toLowerCase();
  const fabric = await tx
    .selectFrom("fabric")
    .select(["id", "name"])
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", key)
    .forUpdate()
    .executeTakeFirst();
  if (fabric === undefined || (provider !== undefined && provider !== fabric.id))
    return { status: 204 };
  const machines = await items.protectedMachines(tx, fabric.id);
  const mappings = await tx
    .selectFrom("container_mapping")
    .select("name")
    .where("fabric_id", "=", fabric.id)
    .execute();
  if (machines.length > 0 || mappings.length > 0)
    throw new ArmError(
      409,
      "ResourceInUse",
      `fabric ${fabric.name} has ${machines.length} protected items and ${mappings.length} container mappings`,
      "Disable replication of the machines and remove the container mappings first.",
    );
  await tx.deleteFrom("fabric").where("id", "=", fabric.id).execute();
  const event = {
    vaultId: request.vault.id,
    code: "FABRIC_REMOVED",
    eventType: "ServerHealth",
    severity: "Info",
    description: `The fabric ${fabric.name} was removed by ${request.caller.name}.`,
    affected: fabric,
  } as const;
  await recordEvent(tx, event, context);
  // Whoever still waits for its wishes learns that it is unknown.
  await sql`select pg_notify('osr_fabric', ${fabric.id})`.execute(tx);
  const jobId = await context.jobs.record(tx, {
    vaultId: request.vault.id,
    kind: "DeleteServer",
    friendlyName: "Remove server",
    input: {},
    target: { id: fabric.id, name: fabric.name, instanceType: "Server" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
  return accepted(jobId);
}

async function gatewaysOf(
  database: VaultDatabase,
  fabric: FabricRow,
): Promise<Parameters<typeof fabricBody>[2]> {
  return database
    .selectFrom("fabric_gateway")
    .select(["id", "role", "facts", "last_seen_at"])
    .where("fabric_id", "=", fabric.id)
    .orderBy("id")
    .execute();
}

/** Each fabric has one provider, named by the fabric's internal identifier. */
async function foundProvider(request: VaultRequest, database: VaultDatabase): Promise<FabricRow> {
  const fabric = await foundFabric(request, database);
  const name = (request.parameters["providerName"] ?? "").toLowerCase();
  if (name !== fabric.id) throw notFound(`recovery services provider ${name}`);
  return fabric;
}

function providerBody(request: VaultRequest, row: FabricRow, nowMs: number): JsonObject {
  const errors = fabricErrors(row, nowMs);
  const path = ["replicationFabrics", row.name, "replicationRecoveryServicesProviders", row.id];
  return resourceBody(request.vault, path, {
    fabricType: "VMware",
    friendlyName: row.name,
    fabricFriendlyName: row.name,
    providerVersion: row.version,
    serverVersion: row.version,
    providerVersionState: "Supported",
    lastHeartBeat: row.last_heartbeat_at === null ? null : isoTime(row.last_heartbeat_at),
    connectionStatus: isSilent(row.last_heartbeat_at, nowMs) ? "Disconnected" : "Connected",
    protectedItemCount: 0,
    allowedScenarios: ["Refresh"],
    healthErrorDetails: errors.map(({ code, message }) => ({
      errorCode: code,
      errorMessage: message,
    })),
    draIdentifier: row.id,
    machineName: row.host_name,
  });
}
