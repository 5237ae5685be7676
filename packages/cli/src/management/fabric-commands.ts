import type { Command } from "commander";

import type { Fabric } from "@azure/arm-recoveryservices-siterecovery";

import { type ManagementCommands, type WaitOption, withWait } from "./management-command.ts";
import { containerOf, protectableItems } from "./places.ts";
import { fabricDetails } from "./provider-details.ts";
import { time, viewOf, viewOfList } from "./view.ts";
import { asking, listed } from "./requests.ts";
import { vaultJob } from "./vault-job.ts";

type FabricOption = { readonly fabric?: string };
type DiscoverOptions = WaitOption &
  FabricOption & { readonly address: string; readonly os: "Linux" | "Windows" };
type ReassociateOptions = WaitOption &
  FabricOption & { readonly from: string; readonly to: string; readonly machine?: string[] };

/** `osr fabric …`: sites, their process servers, and the machines that they know. */
export function addFabricCommands(commands: ManagementCommands): void {
  const { program } = commands;
  const fabric = program
    .command("fabric")
    .description("sites: configuration servers and all behind");
  addReading(fabric, commands);
  addMachines(fabric, commands);
  addChanging(fabric, commands);
}

function addReading(fabric: Command, { managed }: ManagementCommands): void {
  fabric
    .command("list")
    .description("the registered sites")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }) =>
        viewOfList(
          await listed(siteRecovery.replicationFabrics.list(vault, resourceGroup)),
          fabricRow,
        ),
      ),
    );
  fabric
    .command("show <name>")
    .description("one site")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }, name: string) =>
        viewOf(
          await asking(() => siteRecovery.replicationFabrics.get(vault, resourceGroup, name)),
          fabricRow,
        ),
      ),
    );
  fabric
    .command("process-servers <name>")
    .description("the process servers of a site")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }, name: string) => {
        const found = await asking(() =>
          siteRecovery.replicationFabrics.get(vault, resourceGroup, name),
        );
        return viewOfList(fabricDetails(found)?.processServers ?? [], (server) => ({
          id: server.id,
          name: server.friendlyName,
          health: server.health,
          lastHeartbeat: time(server.lastHeartbeat),
          machines: server.machineCount,
          freeSpacePercent: percent(server.availableSpaceInBytes, server.totalSpaceInBytes),
          version: server.agentVersion,
        }));
      }),
    );
}

function addMachines(fabric: Command, { managed }: ManagementCommands): void {
  fabric
    .command("machines")
    .description("the machines that a site knows: protectable items")
    .option("--fabric <name>", "the site, where there are several")
    .action(
      managed(async (management, options: FabricOption) => {
        const place = await containerOf(management, options.fabric);
        return viewOfList(await protectableItems(management, place), ({ name, properties }) => ({
          name,
          machine: properties?.friendlyName,
          state: properties?.protectionStatus,
          notReady: properties?.protectionReadinessErrors?.join(","),
        }));
      }),
    );
  withWait(fabric.command("discover <machine>"))
    .description("tell a site of a physical machine")
    .requiredOption("--address <address>", "its IP address")
    .option("--os <kind>", "Linux or Windows", "Linux")
    .option("--fabric <name>", "the site, where there are several")
    .action(
      managed(async (management, machine: string, options: DiscoverOptions) => {
        const place = await containerOf(management, options.fabric);
        const { address: ipAddress, os: osType } = options;
        const request = { properties: { friendlyName: machine, ipAddress, osType } };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationProtectionContainers.beginDiscoverProtectableItem(
            ...at,
            place.fabric,
            place.container,
            request,
            begun,
          ),
        );
      }),
    );
}

function addChanging(fabric: Command, { managed }: ManagementCommands): void {
  withWait(fabric.command("move"))
    .description("move machines to another process server, without a resync")
    .requiredOption("--from <id>", "the process server that they use")
    .requiredOption("--to <id>", "the one that they are to use")
    .option("--machine <id...>", "only these machines; without it, all of them")
    .option("--fabric <name>", "the site, where there are several")
    .action(
      managed(async (management, options: ReassociateOptions) => {
        const place = await containerOf(management, options.fabric);
        const properties = {
          containerName: place.container,
          sourceProcessServerId: options.from,
          targetProcessServerId: options.to,
          vmsToMigrate: options.machine ?? [],
          updateType: options.machine === undefined ? "SystemLevel" : "ServerLevel",
        };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationFabrics.beginReassociateGateway(
            ...at,
            place.fabric,
            { properties },
            begun,
          ),
        );
      }),
    );
  withWait(fabric.command("delete <name>"))
    .description("remove a site whose machines are all disabled")
    .action(
      managed((management, name: string, options: WaitOption) =>
        vaultJob(management, options, (client, at, begun) =>
          client.replicationFabrics.beginDelete(...at, name, begun),
        ),
      ),
    );
}

function fabricRow(fabric: Fabric): Readonly<Record<string, unknown>> {
  const details = fabricDetails(fabric);
  return {
    name: fabric.name,
    site: fabric.properties?.friendlyName,
    health: fabric.properties?.health,
    server: details?.hostName,
    version: details?.agentVersion,
    lastHeartbeat: time(details?.lastHeartbeat),
    processServers: details?.processServers?.length,
    protectedMachines: details?.protectedServers,
  };
}

function percent(part: number | undefined, whole: number | undefined): number | undefined {
  return part === undefined || whole === undefined || whole === 0
    ? undefined
    : Math.round((100 * part) / whole);
}
