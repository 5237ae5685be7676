import type { JsonObject } from "@osr/base/json-value";
import { isoTime } from "@osr/base/platform/iso-time";
import { type Uuid, isUuid } from "@osr/base/uuid";
import { hasCode } from "@osr/base/errors";
import { groupKeyOf } from "@osr/repository/key-schedule";
import {
  parseObjectName,
  recoveryPointName,
  recoveryPointPrefix,
} from "@osr/repository/object-names";
import { STORE_ERRORS, listAll } from "@osr/repository/object-store";
import { RECOVERY_POINT_BYTES_MAX, decodeRecoveryPoint } from "@osr/repository/recovery-point";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";
import { readSmallObject } from "@osr/repository/small-object";

import { badRequest, notFound } from "../arm/arm-error.ts";
import { type ResourceRoute, type VaultRequest, ok } from "../arm/resource-routes.ts";
import type { VaultDatabase } from "../database/database.ts";
import type { ReplicaPoint } from "@osr/contracts/replica-host";
import { resourceBody } from "../resources/resource-body.ts";
import type { VaultContext } from "../vault-context.ts";
import { itemPath } from "./item-body.ts";
import { ITEM_PATH, ITEM_ACTION } from "./item-paths.ts";
import { type ItemRow, foundItem, groupIdOf } from "./item-row.ts";
import { foundContainer } from "../resources/fabric-row.ts";

/** Points that are read from the storage account at once: what is more is read by the next request. */
const NEW_POINTS_MAX = 2000;
const POINTS_MAX = 10_000;

type IndexPorts = Pick<VaultContext, "database" | "store" | "vaultKey" | "log" | "clock">;
type PointRow = {
  readonly slot: number;
  readonly cut_id: Uuid;
  readonly class: "crash" | "app";
  readonly made_at: number;
};

/**
 * Brings the index of a group's points up to the storage account, which alone knows which there are. Fuzzy points and
 * what is no authentic point are left out. One list, and one read for each point that is new.
 */
export async function refreshPoints(
  ports: IndexPorts,
  vaultId: Uuid,
  groupId: Uuid,
  signal: AbortSignal,
): Promise<void> {
  const { database, store, clock } = ports;
  // Points that are made while the account is being listed may be missing.
  const listed = { listed_at: clock.unixMs() };
  const stored = new Set<number>();
  for await (const { name } of listAll(store, recoveryPointPrefix(vaultId, groupId), signal)) {
    const parsed = parseObjectName(vaultId, name);
    if (parsed?.kind === "recovery-point") stored.add(parsed.slot);
  }
  const known = await indexedPoints(database, vaultId, groupId);
  const knownSlots = new Set(known.map(({ slot }) => slot));
  const gone = [...knownSlots].filter((slot) => !stored.has(slot));
  const fresh = [...stored].filter((slot) => !knownSlots.has(slot)).slice(-NEW_POINTS_MAX);
  const rows: PointRow[] = [];
  for (const slot of fresh) {
    const row = await readPoint(ports, vaultId, groupId, slot, signal);
    if (row !== undefined) rows.push(row);
  }
  if (gone.length > 0)
    await database
      .deleteFrom("recovery_point")
      .where("vault_id", "=", vaultId)
      .where("group_id", "=", groupId)
      .where("slot", "in", gone)
      .execute();
  if (rows.length > 0)
    await database
      .insertInto("recovery_point")
      .values(rows.map((row) => ({ ...row, vault_id: vaultId, group_id: groupId })))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  await followPoints(database, vaultId, groupId);
  await database
    .insertInto("point_listing")
    .values({ vault_id: vaultId, group_id: groupId, ...listed })
    .onConflict((conflict) => conflict.columns(["vault_id", "group_id"]).doUpdateSet(listed))
    .execute();
}

/** An item may be failed over as soon as the storage account has a point of it, whoever has told the vault of it. */
async function followPoints(database: VaultDatabase, vaultId: Uuid, groupId: Uuid): Promise<void> {
  const [newest] = await indexedPoints(database, vaultId, groupId);
  if (newest === undefined) return;
  await database
    .updateTable("protected_item")
    .set({ newest_point_slot: newest.slot, newest_point_at: newest.made_at })
    .where("vault_id", "=", vaultId)
    .where("machine_id", "=", groupId)
    .where((where) =>
      where.or([
        where("newest_point_slot", "is", null),
        where("newest_point_slot", "<", newest.slot),
      ]),
    )
    .execute();
}

async function readPoint(
  { store, vaultKey, log }: IndexPorts,
  vaultId: Uuid,
  groupId: Uuid,
  slot: number,
  signal: AbortSignal,
): Promise<PointRow | undefined> {
  try {
    const name = recoveryPointName(vaultId, groupId, slot);
    const bytes = await readSmallObject(store, name, RECOVERY_POINT_BYTES_MAX, signal);
    const point = decodeRecoveryPoint(bytes, groupKeyOf(vaultKey, groupId));
    if (point.class === "fuzzy" || point.groupId !== groupId || point.slot !== slot)
      return undefined;
    return { slot, cut_id: point.cutId, class: point.class, made_at: point.unixMs };
  } catch (error) {
    if (hasCode(error, STORE_ERRORS.OBJECT_NOT_FOUND)) return undefined;
    if (!hasCode(error, REPOSITORY_ERRORS.POINT_INVALID)) throw error;
    log.warn("a recovery point is not authentic and is not offered", { groupId, slot, error });
    return undefined;
  }
}

/** Newest first. */
function indexedPoints(database: VaultDatabase, vaultId: Uuid, groupId: Uuid): Promise<PointRow[]> {
  return database
    .selectFrom("recovery_point")
    .select(["slot", "cut_id", "class", "made_at"])
    .where("vault_id", "=", vaultId)
    .where("group_id", "=", groupId)
    .orderBy("slot", "desc")
    .limit(POINTS_MAX)
    .execute();
}

/**
 * Which point the `recoveryPointId` of a request means: an ARM id or a name of one; absent, null and "" mean the latest that
 * the logs prove. Throws ArmError 400 where the item has no such point.
 */
export async function pointChoice(
  database: VaultDatabase,
  row: ItemRow,
  recoveryPointId: string | null | undefined,
): Promise<ReplicaPoint> {
  if (recoveryPointId === undefined || recoveryPointId === null || recoveryPointId === "")
    return { kind: "latest" };
  const name = recoveryPointId.split("/").at(-1) ?? "";
  const point = isUuid(name)
    ? await database
        .selectFrom("recovery_point")
        .select("slot")
        .where("vault_id", "=", row.vault_id)
        .where("group_id", "=", groupIdOf(row))
        .where("cut_id", "=", name)
        .executeTakeFirst()
    : undefined;
  if (point === undefined)
    throw badRequest("recoveryPointId", `${row.name} has no recovery point ${name}`);
  return { kind: "custom", slot: point.slot };
}

/** Recovery points of an item, newest first. */
export function recoveryPointRoutes(context: VaultContext): ResourceRoute[] {
  return [
    {
      method: "GET",
      path: `${ITEM_PATH}/recoveryPoints`,
      action: `${ITEM_ACTION}/recoveryPoints/read`,
      summary: "List the recovery points of a protected item, newest first",
      read: async (request, database) => {
        const { row, bodyOf } = await pointsOf(request, database);
        await refreshPoints(context, row.vault_id, groupIdOf(row), request.signal);
        const points = await indexedPoints(database, row.vault_id, groupIdOf(row));
        return ok({ value: points.map((point) => bodyOf(point)), nextLink: null });
      },
    },
    {
      method: "GET",
      path: `${ITEM_PATH}/recoveryPoints/{recoveryPointName}`,
      action: `${ITEM_ACTION}/recoveryPoints/read`,
      summary: "Show a recovery point",
      read: async (request, database) => {
        const { row, bodyOf } = await pointsOf(request, database);
        await refreshPoints(context, row.vault_id, groupIdOf(row), request.signal);
        const name = (request.parameters["recoveryPointName"] ?? "").toLowerCase();
        const points = await indexedPoints(database, row.vault_id, groupIdOf(row));
        const point = points.find(({ cut_id: cutId }) => cutId === name);
        if (point === undefined) throw notFound(`recovery point ${name}`);
        return ok(bodyOf(point));
      },
    },
  ];
}

async function pointsOf(
  request: VaultRequest,
  database: VaultDatabase,
): Promise<{ readonly row: ItemRow; readonly bodyOf: (point: PointRow) => JsonObject }> {
  const fabric = await foundContainer(request, database);
  const row = await foundItem(request, database);
  const path = itemPath(fabric.name, fabric.id, row.name);
  return {
    row,
    bodyOf: (point) =>
      resourceBody(request.vault, [...path, "recoveryPoints", point.cut_id], {
        recoveryPointTime: isoTime(point.made_at),
        recoveryPointType: point.class === "app" ? "AppConsistent" : "CrashConsistent",
        providerSpecificDetails: { instanceType: "InMageAzureV2", isMultiVmSyncPoint: "false" },
      }),
  };
}
