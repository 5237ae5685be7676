import { object, oneOf, text } from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { isUuid } from "@osr/base/uuid";
import type { FabricMachine } from "@osr/contracts/fabric-protocol";

import { badRequest, notFound } from "../arm/arm-error.ts";
import { parseFilter } from "../arm/filter.ts";
import { pageOf, pageReply } from "../arm/paging.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { FabricItems, ProtectedMachine } from "../fabric/desired-items.ts";
import { DISCOVER_PHYSICAL_MACHINE, type DiscoverInput } from "../fabric/fabric-operations.ts";
import type { VaultContext } from "../vault-context.ts";
import {
  type FabricRow,
  containerName,
  fabricsOf,
  foundContainer,
  foundFabric,
} from "./fabric-row.ts";
import { armIdOf, resourceBody } from "./resource-body.ts";

const F = "V/replicationFabrics/{fabricName}";
const C = `${F}/replicationProtectionContainers/{protectionContainerName}`;
const ACTION =
  "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers";
const route = routesOf(ACTION);
const MIB_BYTES = 1024 * 1024;
const ADDRESS = /^[A-Za-z0-9][A-Za-z0-9.:_-]{0,254}$/;

type DiscoverBody = {
  readonly properties: {
    readonly friendlyName: string;
    readonly ipAddress: string;
    readonly osType: "Windows" | "Linux";
  };
};
const discoverShape = object<DiscoverBody>({
  properties: object<DiscoverBody["properties"]>({
    friendlyName: text(255),
    ipAddress: text(255),
    osType: oneOf("Windows", "Linux"),
  }),
});

/** The protection container of each fabric and the machines in it. */
export function containerRoutes(context: VaultContext, items: FabricItems): ResourceRoute[] {
  const list = async (
    request: VaultRequest,
    database: VaultDatabase,
    rows: readonly FabricRow[],
  ): Promise<ArmReply> => {
    const value: JsonObject[] = [];
    for (const row of rows) value.push(await containerBody(request, database, row, items));
    return ok({ value, nextLink: null });
  };
  return [
    route.read(
      "V/replicationProtectionContainers",
      "List protection containers of the vault",
      async (request, database) =>
        list(request, database, await fabricsOf(database, request.vault.id)),
    ),
    route.read(
      `${F}/replicationProtectionContainers`,
      "List protection containers of a fabric",
      async (request, database) => list(request, database, [await foundFabric(request, database)]),
    ),
    route.read(C, "Show a protection container", async (request, database) => {
      const fabric = await foundContainer(request, database);
      return ok(await containerBody(request, database, fabric, items));
    }),
    route.act(C, "discoverProtectableItem", "Add a physical machine by address", (request, tx) =>
      discover(request, tx, context),
    ),
    {
      method: "GET",
      path: `${C}/replicationProtectableItems`,
      action: `${ACTION}/replicationProtectableItems/read`,
      summary: "List machines that can be protected, and those that are",
      read: (request, database) => listProtectable(request, database, items),
    },
    {
      method: "GET",
      path: `${C}/replicationProtectableItems/{protectableItemName}`,
      action: `${ACTION}/replicationProtectableItems/read`,
      summary: "Show a machine that can be protected",
      read: (request, database) => showProtectable(request, database, items),
    },
  ];
}

async function containerBody(
  request: VaultRequest,
  database: VaultDatabase,
  row: FabricRow,
  items: FabricItems,
): Promise<JsonObject> {
  const machines = await items.protectedMachines(database, row.id);
  const mapping = await database
    .selectFrom("container_mapping")
    .select("id")
    .where("fabric_id", "=", row.id)
    .limit(1)
    .executeTakeFirst();
  return resourceBody(request.vault, containerPath(row), {
    fabricFriendlyName: row.name,
    friendlyName: row.name,
    fabricType: "VMware",
    protectedItemCount: machines.length,
    pairingStatus: mapping === undefined ? "NotPaired" : "Paired",
    role: "Primary",
    fabricSpecificDetails: null,
  });
}

export function containerPath(row: Pick<FabricRow, "id" | "name">): string[] {
  return ["replicationFabrics", row.name, "replicationProtectionContainers", containerName(row.id)];
}

async function discover(
  request: VaultRequest,
  tx: VaultTransaction,
  { jobs }: VaultContext,
): Promise<ArmAccepted> {
  const fabric = await foundContainer(request, tx);
  const { friendlyName, ipAddress, osType } = discoverShape(request.body ?? null, "").properties;
  if (friendlyName.trim() === "") throw badRequest("properties.friendlyName", "must not be empty");
  if (!ADDRESS.test(ipAddress))
    throw badRequest("properties.ipAddress", "must be an IP address or a host name");
  const input: DiscoverInput = {
    fabricId: fabric.id,
    friendlyName,
    address: ipAddress,
    operatingSystem: osType === "Windows" ? "windows" : "linux",
  };
  const jobId = await jobs.enqueue(tx, {
    vaultId: request.vault.id,
    kind: DISCOVER_PHYSICAL_MACHINE,
    friendlyName: "Add physical machine",
    input,
    target: { id: ipAddress, name: friendlyName, instanceType: "ProtectionEntity" },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
    isCancellable: true,
  });
  return accepted(jobId);
}

async function listProtectable(
  request: VaultRequest,
  database: VaultDatabase,
  items: FabricItems,
): Promise<ArmReply> {
  const fabric = await foundContainer(request, database);
  const terms = parseFilter(request.query.get("$filter"), ["state", "friendlyname"]);
  const page = pageOf(request);
  const [after] = page.after ?? [];
  const machines = await items.protectedMachines(database, fabric.id);
  let query = database
    .selectFrom("fabric_machine")
    .select(["machine_id", "document"])
    .where("fabric_id", "=", fabric.id)
    .where("is_gone", "=", false)
    .orderBy("machine_id")
    .limit(page.size + 1);
  if (isUuid(after)) query = query.where("machine_id", ">", after);
  for (const { field, value } of terms) {
    if (field === "friendlyname") query = query.where("friendly_name", "=", value);
    else {
      const ids = machines.map(({ machineId }) => machineId);
      const isWanted = value.toLowerCase() === "protected";
      const all = JSON.stringify(ids);
      query = query.where((where) => {
        const isIn = where(
          where.fn<boolean>("jsonb_exists", [
            where.cast(where.val(all), "jsonb"),
            where.cast(where.ref("machine_id"), "text"),
          ]),
          "=",
          isWanted,
        );
        return isIn;
      });
    }
  }
  return pageReply(
    request,
    page,
    await query.execute(),
    (row) => protectableBody(request, fabric, row.document, machines),
    (row) => [row.machine_id],
  );
}

async function showProtectable(
  request: VaultRequest,
  database: VaultDatabase,
  items: FabricItems,
): Promise<ArmReply> {
  const fabric = await foundContainer(request, database);
  const name = (request.parameters["protectableItemName"] ?? "").toLowerCase();
  const row = isUuid(name)
    ? await database
        .selectFrom("fabric_machine")
        .select("document")
        .where("fabric_id", "=", fabric.id)
        .where("machine_id", "=", name)
        .executeTakeFirst()
    : undefined;
  if (row === undefined) throw notFound(`protectable item ${name}`);
  const machines = await items.protectedMachines(database, fabric.id);
  return ok(protectableBody(request, fabric, row.document, machines));
}

function protectableBody(
  request: VaultRequest,
  fabric: FabricRow,
  document: JsonObject,
  machines: readonly ProtectedMachine[],
): JsonObject {
  // Checked against its shape when it arrived.
  const machine = document as unknown as FabricMachine;
  const item = machines.find(({ machineId }) => machineId === machine.machineId);
  const { registration } = machine;
  const path = [...containerPath(fabric), "replicationProtectableItems", machine.machineId];
  const provider = [
    "replicationFabrics",
    fabric.name,
    "replicationRecoveryServicesProviders",
    fabric.id,
  ];
  return resourceBody(request.vault, path, {
    friendlyName: machine.friendlyName,
    protectionStatus: item === undefined ? "Unprotected" : "Protected",
    replicationProtectedItemId: item?.itemId ?? null,
    recoveryServicesProviderId: armIdOf(request.vault, provider),
    protectionReadinessErrors: registration === undefined ? ["AGENT_NOT_ENROLLED"] : [],
    supportedReplicationProviders: ["InMageAzureV2", "InMage"],
    customDetails: {
      instanceType: "VMwareVirtualMachine",
      agentGeneratedId: registration === undefined ? null : machine.machineId,
      agentInstalled: registration === undefined ? "NotInstalled" : "Installed",
      osType: machine.operatingSystem.toUpperCase(),
      agentVersion: registration?.agentVersion ?? null,
      ipAddress: machine.address,
      poweredOn: machine.lastSeenUnixMs === undefined ? "" : "On",
      vCenterInfrastructureId: null,
      discoveryType: "Physical",
      diskDetails: (registration?.disks ?? []).map((disk) => ({
        diskId: disk.identity,
        diskName: disk.name,
        diskSizeInMB: String(Math.floor(disk.sizeBytes / MIB_BYTES)),
        diskType: disk.isBoot ? "OS" : "Data",
        diskConfiguration: "",
        volumeList: [],
      })),
      validationErrors: [],
    },
  });
}
