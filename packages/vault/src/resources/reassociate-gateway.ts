import { sql } from "kysely";

import { list, object, oneOf, optional, text } from "@osr/base/json-shape";
import { isUuid, type Uuid } from "@osr/base/uuid";

import { badRequest } from "../arm/arm-error.ts";
import {
  type ArmAccepted,
  type ResourceRoute,
  type VaultRequest,
  accepted,
} from "../arm/resource-routes.ts";
import type { VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import { foundFabric } from "./fabric-row.ts";

const MACHINES_MAX = 1000;

type SwitchProperties = {
  readonly sourceProcessServerId: string;
  readonly targetProcessServerId: string;
  readonly vmsToMigrate?: readonly string[] | undefined;
  /** SystemLevel: every machine of the source; ServerLevel: those that are named. */
  readonly updateType?: "SystemLevel" | "ServerLevel" | undefined;
};
const switchShape = object<{ properties: SwitchProperties }>({
  properties: object<SwitchProperties>({
    sourceProcessServerId: text(64),
    targetProcessServerId: text(64),
    vmsToMigrate: optional(list(text(255), MACHINES_MAX)),
    updateType: optional(oneOf("SystemLevel", "ServerLevel")),
  }),
});

/** "Switch process server": moves machines to another one, without a resync. */
export function reassociateGatewayRoute(context: VaultContext): ResourceRoute {
  return {
    method: "POST",
    path: "V/replicationFabrics/{fabricName}/reassociateGateway",
    action: "Microsoft.RecoveryServices/vaults/replicationFabrics/reassociateGateway/action",
    summary: "Move machines to another process server",
    write: (request, tx) => reassociate(request, tx, context),
  };
}

async function reassociate(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const fabric = await foundFabric(request, tx);
  const { properties } = switchShape(request.body ?? null, "");
  const source = properties.sourceProcessServerId.toLowerCase();
  const target = await knownServer(tx, fabric.id, properties.targetProcessServerId.toLowerCase());
  const isNamed = properties.updateType === "ServerLevel";
  const named = (properties.vmsToMigrate ?? []).map((name) => name.toLowerCase());
  if (isNamed && named.length === 0)
    throw badRequest("properties.vmsToMigrate", "must name the machines to move");
  // Where a machine is now, it says itself; where it is to be, its item does.
  const { rows } = await sql<{ id: Uuid }>`
    update protected_item item set process_server_id = ${target}, changed_at = ${context.clock.unixMs()}
    from fabric_machine machine
    where item.fabric_id = ${fabric.id} and machine.fabric_id = item.fabric_id
      and machine.machine_id = item.machine_id
      and (item.process_server_id::text = ${source}
        or machine.document -> 'facts' ->> 'processServerId' = ${source})
      and (not ${isNamed} or item.machine_id::text = any(${named}) or item.key = any(${named}))
    returning item.id`.execute(tx);
  if (isNamed && rows.length === 0)
    throw badRequest(
      "properties.vmsToMigrate",
      "names no machine that properties.sourceProcessServerId has at the moment",
    );
  if (rows.length > 0) await context.fabrics.changed(tx, fabric.id);
  const jobId = await context.jobs.record(tx, {
    vaultId: request.vault.id,
    kind: "ReassociateGateway",
    friendlyName: "Switch process server",
    input: { machines: rows.length },
    target: { id: fabric.id, name: fabric.name, instanceType: "Server" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
  return accepted(jobId);
}

async function knownServer(tx: VaultTransaction, fabricId: Uuid, id: string): Promise<Uuid> {
  const row = isUuid(id)
    ? await tx
        .selectFrom("fabric_gateway")
        .select("id")
        .where("fabric_id", "=", fabricId)
        .where("id", "=", id)
        .where("role", "=", "process-server")
        .executeTakeFirst()
    : undefined;
  if (row === undefined)
    throw badRequest("properties.targetProcessServerId", "is no process server of this fabric");
  return row.id;
}
