import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { HOUR_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { GatewayFacts } from "@osr/contracts/replication-facts";

import { badRequest } from "../arm/arm-error.ts";
import { type ResourceRoute, type VaultRequest, ok } from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase } from "../database/database.ts";
import { asOf, pointsKnownUnixMs } from "../items/item-health.ts";
import { ITEM_ACTION, ITEM_PATH } from "../items/item-paths.ts";
import { foundItem, groupIdOf, reportedMachine } from "../items/item-row.ts";
import { RPO_HISTORY_HOURS, RPO_SAMPLE_MS, rpoHistory } from "../items/rpo-history.ts";
import type { VaultContext } from "../vault-context.ts";
import { explainRpo } from "./rpo-explanation.ts";

const route = routesOf(ITEM_ACTION);

const HISTORY_HOURS_DEFAULT = 24;

/** `OpenSiteRecovery/rpo` of a protected item: two clocks, and what waits at each hop. */
export function rpoRoutes({ clock }: VaultContext): ResourceRoute[] {
  return [
    route.read(
      `${ITEM_PATH}/OpenSiteRecovery/rpo`,
      "Explain the recovery point objective of a machine, hop by hop",
      async (request, database) => ok(await rpoBody(request, database, clock.unixMs())),
    ),
    route.read(
      `${ITEM_PATH}/OpenSiteRecovery/rpoHistory`,
      "How old a machine's newest recovery point was, every 5 minutes (?hours=1 to 72, default 24)",
      async (request, database) => ok(await historyBody(request, database, clock.unixMs())),
    ),
  ];
}

async function historyBody(
  request: VaultRequest,
  database: VaultDatabase,
  nowUnixMs: number,
): Promise<JsonObject> {
  const hours = Number(request.query.get("hours") ?? HISTORY_HOURS_DEFAULT);
  if (!Number.isInteger(hours) || hours < 1 || hours > RPO_HISTORY_HOURS)
    throw badRequest("hours", `must be a whole number from 1 to ${RPO_HISTORY_HOURS}`);
  const { id } = await foundItem(request, database);
  const samples = await rpoHistory(database, id, nowUnixMs - hours * HOUR_MS);
  return {
    id: request.resourcePath,
    name: "rpoHistory",
    type: "OpenSiteRecovery/rpoHistory",
    properties: {
      intervalInSeconds: RPO_SAMPLE_MS / SECOND_MS,
      samples: samples.map(({ unixMs, rpoSeconds }) => ({
        time: isoTime(unixMs),
        rpoInSeconds: rpoSeconds,
      })),
    },
  };
}

async function rpoBody(
  request: VaultRequest,
  database: VaultDatabase,
  nowUnixMs: number,
): Promise<JsonObject> {
  const row = await foundItem(request, database);
  const machine = await reportedMachine(database, row);
  const { point_interval_seconds: pointIntervalSeconds } = await database
    .selectFrom("policy")
    .select("point_interval_seconds")
    .where("id", "=", row.policy_id)
    .executeTakeFirstOrThrow();
  const processed = await database
    .selectFrom("recovery_point")
    .select(["slot", "class", "made_at"])
    .where("vault_id", "=", row.vault_id)
    .where("group_id", "=", groupIdOf(row))
    .orderBy("slot", "desc")
    .executeTakeFirst();
  const listing = await database
    .selectFrom("point_listing")
    .select("listed_at")
    .where("vault_id", "=", row.vault_id)
    .where("group_id", "=", groupIdOf(row))
    .executeTakeFirst();
  const known = pointsKnownUnixMs(machine?.lastSeenUnixMs, listing?.listed_at ?? null);
  const processServerId = machine?.facts?.processServerId;
  const explained = explainRpo({
    machine: machine?.facts,
    uploadBytesPerSecond: await uploadSpeed(database, row.fabric_id, processServerId),
    newestPointUnixMs: row.newest_point_at ?? undefined,
    pointIntervalSeconds,
    nowUnixMs,
  });
  const { rpoSeconds, slowestHop, summary } = explained;
  const properties: JsonObject = {
    rpoInSeconds: rpoSeconds ?? null,
    newestPointTime: row.newest_point_at === null ? null : isoTime(row.newest_point_at),
    latestProcessed:
      processed === undefined
        ? null
        : { slot: processed.slot, class: processed.class, time: isoTime(processed.made_at) },
    processServerId: processServerId ?? null,
    hops: explained.hops.map((hop) => ({ ...hop })),
    slowestHop: slowestHop ?? null,
    // Of what time all of this is known.
    knownTime: known === undefined ? null : isoTime(known),
    summary: `${summary}${asOf({ pointsKnownUnixMs: known, nowUnixMs })}`,
  };
  return { id: request.resourcePath, name: "rpo", type: "OpenSiteRecovery/rpo", properties };
}

async function uploadSpeed(
  database: VaultDatabase,
  fabricId: Uuid,
  processServerId: Uuid | undefined,
): Promise<number | undefined> {
  if (processServerId === undefined) return undefined;
  const gateway = await database
    .selectFrom("fabric_gateway")
    .select("facts")
    .where("fabric_id", "=", fabricId)
    .where("id", "=", processServerId)
    .where("role", "=", "process-server")
    .executeTakeFirst();
  // Checked against its shape when it arrived.
  return (gateway?.facts as unknown as GatewayFacts | undefined)?.uploadBytesPerSecond;
}
