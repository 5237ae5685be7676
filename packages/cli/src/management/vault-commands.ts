import type { Command } from "commander";

import { type ManagementCommands, type WaitOption, withWait } from "./management-command.ts";
import { viewOf, viewOfList } from "./view.ts";
import { asking, listed } from "./requests.ts";

type CreateOptions = { readonly location: string };

/** `osr vault create|list|show|delete|health|usage`. `run`, `rebuild` and what else needs no vault are in program.ts. */
export function addVaultCommands(commands: ManagementCommands): void {
  const { program } = commands;
  const vault =
    program.commands.find((command) => command.name() === "vault") ??
    program.command("vault").description("the control plane at the recovery site");
  addChanging(vault, commands);
  addReading(vault, commands);
}

function addChanging(vault: Command, { managed }: ManagementCommands): void {
  vault
    .command("create [name]")
    .description("make a vault; without a name, that of the context")
    .option("--location <location>", "where it is; only shown", "local")
    .action(
      managed(async (management, name: string | undefined, { location }: CreateOptions) => {
        const { recoveryServices, resourceGroup } = management;
        const body = {
          location,
          sku: { name: "RS0", tier: "Standard" },
          properties: {},
        };
        const made = await asking(() =>
          recoveryServices.vaults.beginCreateOrUpdateAndWait(
            resourceGroup,
            name ?? management.vault,
            body,
          ),
        );
        return viewOf(made, vaultRow);
      }),
    );
  vault
    .command("list")
    .description("the vaults of the subscription")
    .action(
      managed(async ({ recoveryServices }) =>
        viewOfList(await listed(recoveryServices.vaults.listBySubscriptionId()), vaultRow),
      ),
    );
  vault
    .command("show [name]")
    .description("one vault")
    .action(
      managed(async (management, name: string | undefined) => {
        const { recoveryServices, resourceGroup } = management;
        return viewOf(
          await asking(() => recoveryServices.vaults.get(resourceGroup, name ?? management.vault)),
          vaultRow,
        );
      }),
    );
  withWait(vault.command("delete <name>"))
    .description("delete a vault that protects nothing")
    .action(
      managed(async ({ recoveryServices, resourceGroup }, name: string, { wait }: WaitOption) => {
        await asking(async () => {
          const { vaults } = recoveryServices;
          if (wait) await vaults.beginDeleteAndWait(resourceGroup, name);
          else await vaults.beginDelete(resourceGroup, name);
        });
      }),
    );
}

function addReading(vault: Command, { managed }: ManagementCommands): void {
  vault
    .command("health")
    .description("what is wrong in the vault, worst first")
    .action(
      managed(async ({ siteRecovery, vault: name, resourceGroup }) => {
        const health = await asking(() =>
          siteRecovery.replicationVaultHealth.get(name, resourceGroup),
        );
        const { vaultErrors = [], protectedItemsHealth, fabricsHealth } = health.properties ?? {};
        return viewOf(health, () => ({
          errors: vaultErrors.map(({ errorCode }) => errorCode).join(","),
          protectedItems: protectedItemsHealth?.categorizedResourceCounts,
          fabrics: fabricsHealth?.categorizedResourceCounts,
        }));
      }),
    );
  vault
    .command("usage")
    .description("what the vault is used for, counted")
    .action(
      managed(async ({ recoveryServices, vault: name, resourceGroup }) =>
        viewOfList(
          await listed(recoveryServices.replicationUsages.list(resourceGroup, name)),
          ({ protectedItemCount, recoveryPlanCount, registeredServersCount, jobsSummary }) => ({
            protectedItems: protectedItemCount,
            recoveryPlans: recoveryPlanCount,
            servers: registeredServersCount,
            failedJobs: jobsSummary?.failedJobs,
            runningJobs: jobsSummary?.inProgressJobs,
          }),
        ),
      ),
    );
  vault
    .command("alerts")
    .description("who is told of what goes wrong")
    .action(
      managed(async ({ siteRecovery, vault: name, resourceGroup }) =>
        viewOfList(
          await listed(siteRecovery.replicationAlertSettings.list(name, resourceGroup)),
          ({ name: setting, properties }) => ({
            setting,
            owners: properties?.sendToOwners,
            addresses: properties?.customEmailAddresses?.join(","),
          }),
        ),
      ),
    );
}

function vaultRow(vault: {
  readonly name?: string;
  readonly location: string;
  readonly id?: string;
  readonly properties?: { readonly provisioningState?: string };
}): Readonly<Record<string, unknown>> {
  return {
    name: vault.name,
    location: vault.location,
    state: vault.properties?.provisioningState,
    id: vault.id,
  };
}
