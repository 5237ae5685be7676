import type { Command } from "commander";

import { type ItemRequest, runItemJob } from "./item-job.ts";
import { type ManagementCommands, type WaitOption, withWait } from "./management-command.ts";
import type { Management } from "./management.ts";
import { ownRequest } from "./own-provider.ts";
import { containerOf, itemNamed, meant, networkId, policyId, protectableItems } from "./places.ts";
import { recoveryPointIdOf } from "./point-choice.ts";
import { itemDetails } from "./provider-details.ts";
import { itemRow, time, viewOf, viewOfList } from "./view.ts";
import { listed } from "./requests.ts";
import { vaultJob } from "./vault-job.ts";

type EnableOptions = WaitOption & {
  readonly policy: string;
  readonly fabric?: string;
  readonly as?: string;
  readonly network?: string;
  readonly processServer?: string;
  readonly group?: string;
  readonly size?: string;
};
type UpdateOptions = WaitOption & {
  readonly targetName?: string;
  readonly size?: string;
  readonly network?: string;
  readonly testNetwork?: string;
};
type FailoverOptions = WaitOption & { readonly point: string; readonly shutDownSource: boolean };
type TestOptions = WaitOption & { readonly point: string; readonly network?: string };

/** `osr item …`: machines with replication enabled, and everything that is done with them. */
export function addItemCommands(commands: ManagementCommands): void {
  const item = commands.program
    .command("item")
    .description("protected items: machines with replication enabled");
  addReading(item, commands);
  addLooking(item, commands);
  addEnabling(item, commands);
  addChanging(item, commands);
  addDisks(item, commands);
  addTestFailover(item, commands);
  addFailover(item, commands);
}

function addReading(item: Command, { managed }: ManagementCommands): void {
  item
    .command("list")
    .description("all protected items")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }) =>
        viewOfList(
          await listed(siteRecovery.replicationProtectedItems.list(vault, resourceGroup)),
          itemRow,
        ),
      ),
    );
  item
    .command("show <name>")
    .description("one protected item")
    .action(
      managed(async (management, name: string) =>
        viewOf((await itemNamed(management, name)).item, itemRow),
      ),
    );
  item
    .command("health <name>")
    .description("what is wrong with an item, with causes and remedies")
    .action(
      managed(async (management, name: string) => {
        const { item: found } = await itemNamed(management, name);
        return viewOfList(found.properties?.healthErrors ?? [], (error) => ({
          code: error.errorCode,
          level: error.errorLevel,
          message: error.summaryMessage ?? error.errorMessage,
          causes: error.possibleCauses,
          remedy: error.recommendedAction,
          since: time(error.creationTimeUtc),
        }));
      }),
    );
  item
    .command("disks <name>")
    .description("how far each disk of an item is")
    .action(
      managed(async (management, name: string) => {
        const { item: found } = await itemNamed(management, name);
        return viewOfList(itemDetails(found)?.protectedDisks ?? [], (disk) => ({
          disk: disk.diskName,
          capacityBytes: disk.diskCapacityInBytes,
          stage: disk.progressStatus ?? disk.protectionStage,
          resyncPercent: disk.resyncProgressPercentage,
          atSourceMb: disk.sourceDataInMegaBytes,
          atProcessServerMb: disk.psDataInMegaBytes,
          atTargetMb: disk.targetDataInMegaBytes,
          rpoSeconds: disk.rpoInSeconds,
        }));
      }),
    );
}

function addLooking(item: Command, { managed }: ManagementCommands): void {
  item
    .command("rpo <name>")
    .description("how old the newest recovery point is, explained hop by hop")
    .action(
      managed(async (management, name: string) =>
        ownRequest(management, "GET", await ownPath(management, name, "rpo")),
      ),
    );
  item
    .command("console <name>")
    .description("what the failed-over machine printed on its serial console")
    .action(
      managed(async (management, name: string) =>
        ownRequest(management, "GET", await ownPath(management, name, "console")),
      ),
    );
}

/** What our own provider has of an item. */
function ownPath(management: Management, name: string, what: string): Promise<string> {
  return itemPath(management, name, `OpenSiteRecovery/${what}`);
}

/** Below the vault. */
async function itemPath(management: Management, name: string, what: string): Promise<string> {
  const { fabric, container, name: item } = await itemNamed(management, name);
  const parts = [
    ["replicationFabrics", fabric],
    ["replicationProtectionContainers", container],
    ["replicationProtectedItems", item],
  ];
  const path = parts.map(([kind, part]) => `${kind}/${encodeURIComponent(part ?? "")}`);
  return [...path, what].join("/");
}

function addDisks(item: Command, { managed }: ManagementCommands): void {
  const change = (word: string, verb: string, description: string): void => {
    item
      .command(`${word} <name> <disk...>`)
      .description(description)
      .action(
        managed(async (management, name: string, disks: readonly string[]) => {
          const providerSpecificDetails = {
            instanceType: "InMageAzureV2",
            disks: disks.map((diskId) => ({ diskId })),
          };
          const path = await itemPath(management, name, verb);
          await ownRequest(management, "POST", path, { properties: { providerSpecificDetails } });
          return viewOf((await itemNamed(management, name)).item, itemRow);
        }),
      );
  };
  change("add-disks", "addDisks", "replicate disks (vda, or identities) that were left out");
  change("remove-disks", "removeDisks", "leave disks out from now on; what there is of them stays");
}

function addEnabling(item: Command, { managed }: ManagementCommands): void {
  withWait(item.command("enable <machine>"))
    .description("enable replication of a machine that a site knows")
    .requiredOption("--policy <name>", "its replication policy")
    .option("--fabric <name>", "the site, where there are several")
    .option("--as <name>", "name of the protected item; without it, the machine's")
    .option("--network <name>", "network of the recovery site for failovers")
    .option("--process-server <id>", "without it, the site chooses")
    .option("--group <name>", "replication group, for points that several machines share")
    .option("--size <size>", "size of the machine at the recovery site")
    .action(
      managed(async (management, machine: string, options: EnableOptions) => {
        const { fabric, container } = await containerOf(management, options.fabric);
        const known = await protectableItems(management, { fabric, container });
        const found = meant(known, machine, "machine");
        const { processServer, group, size, network } = options;
        const properties = {
          policyId: await policyId(management, options.policy),
          protectableItemId: found.id ?? "",
          providerSpecificDetails: {
            instanceType: "InMageAzureV2" as const,
            ...(processServer === undefined ? {} : { processServerId: processServer }),
            ...(group === undefined ? {} : { multiVmGroupName: group, multiVmGroupId: group }),
            ...(size === undefined ? {} : { targetVmSize: size }),
            ...(network === undefined
              ? {}
              : { targetAzureNetworkId: await networkId(management, network) }),
          },
        };
        const name = options.as ?? found.properties?.friendlyName ?? machine;
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationProtectedItems.beginCreate(
            ...at,
            fabric,
            container,
            name,
            { properties },
            begun,
          ),
        );
      }),
    );
}

function addChanging(item: Command, { managed }: ManagementCommands): void {
  withWait(item.command("update <name>"))
    .description("change what the machine will be at the recovery site")
    .option("--target-name <name>", "its name there")
    .option("--size <size>", "its size there")
    .option("--network <name>", "network for failovers")
    .option("--test-network <name>", "network for test failovers")
    .action(
      managed(async (management, name: string, options: UpdateOptions) => {
        const { targetName, size, network, testNetwork } = options;
        const properties = {
          ...(targetName === undefined ? {} : { recoveryAzureVMName: targetName }),
          ...(size === undefined ? {} : { recoveryAzureVMSize: size }),
          ...(network === undefined
            ? {}
            : { selectedRecoveryAzureNetworkId: await networkId(management, network) }),
          ...(testNetwork === undefined
            ? {}
            : { selectedTfoAzureNetworkId: await networkId(management, testNetwork) }),
        };
        return await runItemJob(management, name, options, (items, at, begun) =>
          items.beginUpdate(...at, { properties }, begun),
        );
      }),
    );
  withWait(item.command("disable <name>"))
    .description("stop replicating a machine")
    .action(
      managed((management, name: string, options: WaitOption) =>
        runItemJob(management, name, options, (items, at, begun) =>
          items.beginDelete(
            ...at,
            {
              properties: {
                disableProtectionReason: "NotSpecified",
                replicationProviderInput: {
                  instanceType: "InMage",
                  replicaVmDeletionStatus: "Delete",
                },
              },
            },
            begun,
          ),
        ),
      ),
    );
  withWait(item.command("resync <name>"))
    .description("compare the machine's disks with what is replicated, and send what differs")
    .action(managed(bodyless((items, at, begun) => items.beginRepairReplication(...at, begun))));
}

/** The action of a verb that needs no more than the item. */
function bodyless(
  request: ItemRequest,
): (
  ...args: [Parameters<typeof runItemJob>[0], string, WaitOption]
) => ReturnType<typeof runItemJob> {
  return (management, name, options) => runItemJob(management, name, options, request);
}

const POINT_HELP =
  "latest, latest-processed, latest-app-consistent, or the name of a recovery point";

function addTestFailover(item: Command, { managed }: ManagementCommands): void {
  withWait(item.command("test-failover <name>"))
    .description("boot the machine at the recovery site in a test network; replication goes on")
    .option("--point <choice>", POINT_HELP, "latest-processed")
    .option("--network <name>", "the test network; without it, an isolated one is made")
    .action(
      managed(async (management, name: string, options: TestOptions) => {
        const recoveryPointId = await recoveryPointIdOf(management, name, options.point);
        const network =
          options.network === undefined
            ? { networkType: "NoNetworkAttachAsInput" }
            : {
                networkType: "VmNetworkAsInput",
                networkId: await networkId(management, options.network),
              };
        const properties = {
          failoverDirection: "PrimaryToRecovery",
          ...network,
          providerSpecificDetails: { instanceType: "InMageAzureV2" as const, recoveryPointId },
        };
        return await runItemJob(management, name, options, (items, at, begun) =>
          items.beginTestFailover(...at, { properties }, begun),
        );
      }),
    );
  withWait(item.command("test-failover-cleanup <name>"))
    .description("remove what a test failover made; the test counts from then on")
    .option("--notes <text>", "what was seen", "")
    .action(
      managed((management, name: string, options: WaitOption & { notes: string }) =>
        runItemJob(management, name, options, (items, at, begun) =>
          items.beginTestFailoverCleanup(...at, { properties: { comments: options.notes } }, begun),
        ),
      ),
    );
}

function addFailover(item: Command, { managed }: ManagementCommands): void {
  withWait(item.command("failover <name>"))
    .description("run the machine at the recovery site from now on; its source is fenced")
    .option("--point <choice>", POINT_HELP, "latest")
    .option("--shut-down-source", "try to shut the source down first", false)
    .action(
      managed(async (management, name: string, options: FailoverOptions) => {
        const recoveryPointId = await recoveryPointIdOf(management, name, options.point);
        const properties = {
          failoverDirection: "PrimaryToRecovery",
          sourceSiteOperations: options.shutDownSource ? "Required" : "NotRequired",
          providerSpecificDetails: { instanceType: "InMageAzureV2" as const, recoveryPointId },
        };
        return await runItemJob(management, name, options, (items, at, begun) =>
          items.beginUnplannedFailover(...at, { properties }, begun),
        );
      }),
    );
  withWait(item.command("change-point <name>"))
    .description("run the failed-over machine from another recovery point; until commit")
    .requiredOption("--point <choice>", POINT_HELP)
    .action(
      managed(async (management, name: string, options: WaitOption & { point: string }) => {
        const recoveryPointId = await recoveryPointIdOf(management, name, options.point);
        const properties = {
          recoveryPointId,
          providerSpecificDetails: { instanceType: "InMageAzureV2" as const },
        };
        return await runItemJob(management, name, options, (items, at, begun) =>
          items.beginApplyRecoveryPoint(...at, { properties }, begun),
        );
      }),
    );
  withWait(item.command("commit <name>"))
    .description("finish a failover: the recovery point can't be changed any more")
    .action(managed(bodyless((items, at, begun) => items.beginFailoverCommit(...at, begun))));
  withWait(item.command("cancel-failover <name>"))
    .description("give up a failover that has not been committed")
    .action(managed(bodyless((items, at, begun) => items.beginFailoverCancel(...at, begun))));
}
