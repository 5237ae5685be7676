import type { InMageAzureV2PolicyInput, Policy } from "@azure/arm-recoveryservices-siterecovery";
import { type Command, InvalidArgumentError } from "commander";

import { type ManagementCommands, type WaitOption, withWait } from "./management-command.ts";
import { containerOf, policyId } from "./places.ts";
import { policyDetails } from "./provider-details.ts";
import { viewOf, viewOfList } from "./view.ts";
import { asking, listed } from "./requests.ts";
import { vaultJob } from "./vault-job.ts";

type PolicyOptions = WaitOption & {
  readonly crashMinutes: number;
  readonly appMinutes: number;
  readonly retentionHours: number;
  readonly rpoMinutes: number;
  readonly multiVm: boolean;
};

/** `osr policy …`: how often recovery points are made and how long they are kept. */
export function addPolicyCommands(commands: ManagementCommands): void {
  const { program } = commands;
  const policy = program.command("policy").description("replication policies");
  addReading(policy, commands);
  addChanging(policy, commands);
}

function addReading(policy: Command, { managed }: ManagementCommands): void {
  policy
    .command("list")
    .description("all policies")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }) =>
        viewOfList(
          await listed(siteRecovery.replicationPolicies.list(vault, resourceGroup)),
          policyRow,
        ),
      ),
    );
  policy
    .command("show <name>")
    .description("one policy")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }, name: string) =>
        viewOf(
          await asking(() => siteRecovery.replicationPolicies.get(vault, resourceGroup, name)),
          policyRow,
        ),
      ),
    );
}

function addChanging(policy: Command, { managed }: ManagementCommands): void {
  withSettings(withWait(policy.command("create <name>")))
    .description("make a policy, with its failback policy")
    .action(
      managed(async (management, name: string, options: PolicyOptions) => {
        const properties = { providerSpecificInput: inputOf(options) };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationPolicies.beginCreate(...at, name, { properties }, begun),
        );
      }),
    );
  withSettings(withWait(policy.command("update <name>")))
    .description("change a policy; machines that use it follow")
    .action(
      managed(async (management, name: string, options: PolicyOptions) => {
        const properties = { replicationProviderSettings: inputOf(options) };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationPolicies.beginUpdate(...at, name, { properties }, begun),
        );
      }),
    );
  withWait(policy.command("associate <name>"))
    .description("let machines of a site use a policy")
    .option("--fabric <name>", "the site, where there are several")
    .action(
      managed(async (management, name: string, options: WaitOption & { fabric?: string }) => {
        const { fabric, container } = await containerOf(management, options.fabric);
        const properties = {
          targetProtectionContainerId: "Microsoft Azure",
          policyId: await policyId(management, name),
        };
        return await vaultJob(management, options, (client, at, begun) =>
          client.replicationProtectionContainerMappings.beginCreate(
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
  withWait(policy.command("delete <name>"))
    .description("delete a policy that no site uses")
    .action(
      managed((management, name: string, options: WaitOption) =>
        vaultJob(management, options, (client, at, begun) =>
          client.replicationPolicies.beginDelete(...at, name, begun),
        ),
      ),
    );
}

function withSettings(command: Command): Command {
  return command
    .option(
      "--crash-minutes <minutes>",
      "between crash-consistent points; 0.25 is the shortest",
      minutes,
      5,
    )
    .option("--app-minutes <minutes>", "between app-consistent points; 0: none", minutes, 60)
    .option("--retention-hours <hours>", "how long points are kept", minutes, 24)
    .option("--rpo-minutes <minutes>", "warn where the newest point is older", minutes, 60)
    .option("--multi-vm", "machines of a replication group share points", false);
}

function inputOf(options: PolicyOptions): InMageAzureV2PolicyInput {
  return {
    instanceType: "InMageAzureV2",
    crashConsistentFrequencyInMinutes: options.crashMinutes,
    appConsistentFrequencyInMinutes: options.appMinutes,
    recoveryPointHistory: options.retentionHours * 60,
    recoveryPointThresholdInMinutes: options.rpoMinutes,
    multiVmSyncStatus: options.multiVm ? "Enable" : "Disable",
  };
}

function policyRow(policy: Policy): Readonly<Record<string, unknown>> {
  const details = policyDetails(policy);
  const history = details?.recoveryPointHistory;
  return {
    name: policy.name,
    kind: policy.properties?.providerSpecificDetails?.instanceType,
    crashMinutes: details?.crashConsistentFrequencyInMinutes,
    appMinutes: details?.appConsistentFrequencyInMinutes,
    retentionHours: history === undefined ? undefined : history / 60,
    rpoMinutes: details?.recoveryPointThresholdInMinutes,
    multiVm: details?.multiVmSyncStatus,
  };
}

function minutes(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError("It must be a number that is not negative.");
  return value;
}
