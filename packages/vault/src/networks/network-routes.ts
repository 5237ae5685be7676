import { sql } from "kysely";

import type { JsonObject } from "@osr/base/json-value";
import { randomUuid } from "@osr/base/uuid";

import { ArmError, badRequest, notFound } from "../arm/arm-error.ts";
import { sameName } from "../arm/arm-path.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
import {
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { RecoveryNetworkTable } from "../items/item-tables.ts";
import { foundFabric } from "../resources/fabric-row.ts";
import { resourceBody } from "../resources/resource-body.ts";
import type { VaultContext } from "../vault-context.ts";
import { type Reservation, networkValues } from "./network-input.ts";

/** The fabric of the recovery site: every classic client calls it so, literally. */
const RECOVERY_FABRIC = "Microsoft Azure";
const FABRIC_NETWORKS = "V/replicationFabrics/{fabricName}/replicationNetworks";
const OWN = "V/OpenSiteRecovery/networks";
const READ_ACTION = "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationNetworks/read";
const OWN_ACTION = "OpenSiteRecovery/networks";
const ownRoute = routesOf(OWN_ACTION);
const NETWORKS_MAX = 1000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

type NetworkRow = Omit<RecoveryNetworkTable, "reservations"> & { readonly reservations: unknown };

/**
 * Virtual networks of the recovery site. ARM has no operation that makes one, so that is under our own provider; they are shown where ARM's clients look for
 * networks, and a failover names them by that id or by its last segment.
 */
export function networkRoutes(context: VaultContext): ResourceRoute[] {
  return [
    ...["V/replicationNetworks", OWN].map((path): ResourceRoute => ({
      method: "GET",
      path,
      action: READ_ACTION,
      summary: "List the virtual networks of the recovery site",
      read: (request, database) => listNetworks(request, database),
    })),
    {
      method: "GET",
      path: FABRIC_NETWORKS,
      action: READ_ACTION,
      summary: "List the virtual networks of a fabric; only the recovery site has some",
      read: async (request, database) => {
        if (isRecoveryFabric(request)) return listNetworks(request, database);
        await foundFabric(request, database);
        return ok({ value: [], nextLink: null });
      },
    },
    {
      method: "GET",
      path: `${FABRIC_NETWORKS}/{networkName}`,
      action: READ_ACTION,
      summary: "Show a virtual network",
      read: async (request, database) => {
        if (!isRecoveryFabric(request)) throw notFound(`network ${nameOf(request)}`);
        return ok(networkBody(request, await foundNetwork(request, database)));
      },
    },
    {
      method: "GET",
      path: `${OWN}/{networkName}`,
      action: READ_ACTION,
      summary: "Show a virtual network of the recovery site",
      read: async (request, database) =>
        ok(networkBody(request, await foundNetwork(request, database))),
    },
    ownRoute.put(
      `${OWN}/{networkName}`,
      "Create a virtual network of the recovery site, or change its reservations",
      (request, tx) => putNetwork(request, tx, context),
    ),
    ownRoute.remove(
      `${OWN}/{networkName}`,
      "Delete a virtual network that no protected item uses",
      deleteNetwork,
    ),
  ];
}

async function listNetworks(request: VaultRequest, database: VaultDatabase): Promise<ArmReply> {
  const page = pageOf(request);
  const [after] = page.after ?? [];
  let query = database
    .selectFrom("recovery_network")
    .selectAll()
    .where("vault_id", "=", request.vault.id)
    .orderBy("key")
    .limit(page.size + 1);
  if (typeof after === "string") query = query.where("key", ">", after);
  return pageReply(
    request,
    page,
    await query.execute(),
    (row) => networkBody(request, row),
    (row) => [row.key],
  );
}

async function putNetwork(
  request: VaultRequest,
  tx: VaultTransaction,
  { clock, randomness }: VaultContext,
): Promise<ArmReply> {
  const name = nameOf(request);
  if (!NAME.test(name))
    throw badRequest(
      "networkName",
      "must have up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter or digit",
    );
  const values = networkValues(request.body ?? null);
  const known = await findNetwork(request, tx);
  // Machines may be in it: only what a running network takes is changed.
  const isSame =
    known === undefined ||
    (known.subnet === values.subnet &&
      known.gateway === values.gateway &&
      known.is_isolated === values.isIsolated);
  if (!isSame)
    throw new ArmError(
      409,
      "NetworkDiffers",
      `network ${name} exists with other addresses`,
      "Only reservations of a network can be changed. Create another network, or delete this one first.",
    );
  if (known === undefined) await checkRoom(request, tx);
  const reservations = JSON.stringify(values.reservations);
  await tx
    .insertInto("recovery_network")
    .values({
      id: randomUuid(randomness),
      vault_id: request.vault.id,
      key: name.toLowerCase(),
      name,
      subnet: values.subnet,
      gateway: values.gateway,
      is_isolated: values.isIsolated,
      reservations,
      created_at: clock.unixMs(),
    })
    .onConflict((conflict) => conflict.columns(["vault_id", "key"]).doUpdateSet({ reservations }))
    .execute();
  return ok(networkBody(request, await foundNetwork(request, tx)));
}

async function checkRoom(request: VaultRequest, tx: VaultTransaction): Promise<void> {
  const { count } = await tx
    .selectFrom("recovery_network")
    .select((row) => row.fn.countAll<number>().as("count"))
    .where("vault_id", "=", request.vault.id)
    .executeTakeFirstOrThrow();
  if (count < NETWORKS_MAX) return;
  throw new ArmError(
    409,
    "TooManyNetworks",
    `the vault has ${NETWORKS_MAX} networks`,
    "Delete one that nothing uses.",
  );
}

async function deleteNetwork(request: VaultRequest, tx: VaultTransaction): Promise<ArmReply> {
  const known = await findNetwork(request, tx);
  if (known === undefined) return { status: 204 };
  const lastSegment = (field: string) =>
    sql<string>`lower(regexp_replace(coalesce(target ->> ${field}, ''), '^.*/', ''))`;
  const users = await tx
    .selectFrom("protected_item")
    .select("name")
    .where("vault_id", "=", request.vault.id)
    .where((where) =>
      where.or([
        where(lastSegment("networkId"), "=", known.key),
        where(lastSegment("testNetworkId"), "=", known.key),
        // A machine that runs now may be in any network.
        where("replica", "is not", null),
        where("test_replica", "is not", null),
      ]),
    )
    .limit(10)
    .execute();
  if (users.length > 0)
    throw new ArmError(
      409,
      "NetworkInUse",
      `protected items use network ${known.name}, or run at the recovery site: ${users.map(({ name }) => name).join(", ")}`,
      "Name another network in these items, and clean up their test failovers first.",
    );
  await tx.deleteFrom("recovery_network").where("id", "=", known.id).execute();
  return { status: 204 };
}

async function foundNetwork(
  request: VaultRequest,
  database: VaultDatabase | VaultTransaction,
): Promise<NetworkRow> {
  const row = await findNetwork(request, database);
  if (row === undefined) throw notFound(`network ${nameOf(request)}`);
  return row;
}

function findNetwork(
  request: VaultRequest,
  database: VaultDatabase | VaultTransaction,
): Promise<NetworkRow | undefined> {
  return database
    .selectFrom("recovery_network")
    .selectAll()
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", nameOf(request).toLowerCase())
    .executeTakeFirst();
}

function nameOf(request: VaultRequest): string {
  return request.parameters["networkName"] ?? "";
}

function isRecoveryFabric(request: VaultRequest): boolean {
  return sameName(request.parameters["fabricName"] ?? "", RECOVERY_FABRIC);
}

/** ARM's Network, with what it has no word for under `openSiteRecovery`. */
function networkBody(request: VaultRequest, row: NetworkRow): JsonObject {
  const path = ["replicationFabrics", RECOVERY_FABRIC, "replicationNetworks", row.name];
  return resourceBody(request.vault, path, {
    friendlyName: row.name,
    fabricType: "Azure",
    networkType: row.is_isolated ? "Isolated" : "Routed",
    subnets: [{ name: "default", friendlyName: "default", addressList: [row.subnet] }],
    openSiteRecovery: {
      subnet: row.subnet,
      gateway: row.gateway,
      isIsolated: row.is_isolated,
      // Checked when it was written.
      reservations: (row.reservations as readonly Reservation[]).map((one) => ({ ...one })),
    },
  });
}
