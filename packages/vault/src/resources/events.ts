import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { isUuid } from "@osr/base/uuid";

import { notFound } from "../arm/arm-error.ts";
import { filterTime, parseFilter } from "../arm/filter.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
import {
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { EventTable } from "../database/core-tables.ts";
import type { VaultDatabase } from "../database/database.ts";
import { armIdOf, resourceBody } from "./resource-body.ts";

const ACTION = "Microsoft.RecoveryServices/vaults/replicationEvents";
const route = routesOf(ACTION);
const FILTER_FIELDS = [
  "starttime",
  "endtime",
  "severity",
  "eventtype",
  "eventcode",
  "affectedobjectfriendlyname",
  "fabricname",
];

type EventRow = Omit<EventTable, "details"> & {
  readonly details: JsonObject;
  readonly fabric_name: string | null;
};

/** What has happened, newest first. */
export function eventRoutes(): ResourceRoute[] {
  return [
    route.read("V/replicationEvents", "List events, newest first", listEvents),
    route.read("V/replicationEvents/{eventName}", "Show an event", showEvent),
  ];
}

// oxlint-disable-next-line typescript/explicit-module-boundary-types -- kysely's own type of a query
function events(request: VaultRequest, database: VaultDatabase) {
  return database
    .selectFrom("event")
    .leftJoin("fabric", "fabric.id", "event.fabric_id")
    .selectAll("event")
    .select("fabric.name as fabric_name")
    .where("event.vault_id", "=", request.vault.id);
}

async function listEvents(request: VaultRequest, database: VaultDatabase): Promise<ArmReply> {
  const terms = parseFilter(request.query.get("$filter"), FILTER_FIELDS);
  const page = pageOf(request);
  const [afterTime, afterId] = page.after ?? [];
  let query = events(request, database)
    .orderBy("occurred_at", "desc")
    .orderBy("event.id")
    .limit(page.size + 1);
  if (typeof afterTime === "number" && isUuid(afterId))
    query = query.where((where) =>
      where.or([
        where("occurred_at", "<", afterTime),
        where.and([where("occurred_at", "=", afterTime), where("event.id", ">", afterId)]),
      ]),
    );
  for (const { field, value } of terms) {
    if (field === "starttime") query = query.where("occurred_at", ">=", filterTime(value));
    else if (field === "endtime") query = query.where("occurred_at", "<=", filterTime(value));
    else if (field === "severity")
      query = query.where("severity", "=", value as EventRow["severity"]);
    else if (field === "eventtype") query = query.where("event_type", "=", value);
    else if (field === "eventcode") query = query.where("code", "=", value);
    else if (field === "fabricname") query = query.where("fabric.key", "=", value.toLowerCase());
    else query = query.where("affected_name", "=", value);
  }
  return pageReply(
    request,
    page,
    await query.execute(),
    (row) => eventBody(request, row),
    (row) => [row.occurred_at, row.id],
  );
}

async function showEvent(request: VaultRequest, database: VaultDatabase): Promise<ArmReply> {
  const name = (request.parameters["eventName"] ?? "").toLowerCase();
  const row = isUuid(name)
    ? await events(request, database).where("event.id", "=", name).executeTakeFirst()
    : undefined;
  if (row === undefined) throw notFound(`event ${name}`);
  return ok(eventBody(request, row));
}

function eventBody(request: VaultRequest, row: EventRow): JsonObject {
  const fabricId =
    row.fabric_name === null
      ? null
      : armIdOf(request.vault, ["replicationFabrics", row.fabric_name]);
  return resourceBody(request.vault, ["replicationEvents", row.id], {
    eventCode: row.code,
    description: row.description,
    eventType: row.event_type,
    affectedObjectFriendlyName: row.affected_name,
    affectedObjectCorrelationId: row.affected_id,
    severity: row.severity,
    timeOfOccurrence: isoTime(row.occurred_at),
    fabricId,
    providerSpecificDetails: {
      instanceType: "InMageAzureV2",
      eventType: row.event_type,
      category: "",
      component: "",
      correctiveAction: row.details["recommendedAction"] ?? "",
      details: row.details["possibleCauses"] ?? "",
      summary: row.description,
      siteName: row.fabric_name ?? "",
    },
    eventSpecificDetails: null,
    healthErrors: [],
  });
}
