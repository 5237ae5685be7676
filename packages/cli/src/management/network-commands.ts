import type { ManagementCommands } from "./management-command.ts";
import { ownRequest } from "./own-provider.ts";
import { networks } from "./places.ts";
import { viewOf, viewOfList } from "./view.ts";

type CreateOptions = {
  readonly subnet: string;
  readonly gateway?: string;
  readonly isolated: boolean;
};

/** `osr network …`: where failed-over machines live. */
export function addNetworkCommands({ program, managed }: ManagementCommands): void {
  const network = program.command("network").description("networks of the recovery site");
  network
    .command("list")
    .description("all networks")
    .action(
      managed(async (management) =>
        viewOfList(await networks(management), ({ name, properties }) => ({
          name,
          network: properties?.friendlyName,
          subnets: properties?.subnets?.flatMap(({ addressList }) => addressList ?? []).join(","),
        })),
      ),
    );
  network
    .command("create <name>")
    .description("make a network; machines keep their own addresses where these lie in its subnet")
    .requiredOption("--subnet <cidr>", "its subnet, such as 10.0.2.0/24")
    .option("--gateway <address>", "its gateway; without it, the subnet's first address")
    .option("--isolated", "no way out of it: for tests", false)
    .action(
      managed(async (management, name: string, options: CreateOptions) => {
        const { subnet, gateway, isolated: isIsolated } = options;
        const properties = { subnet, isIsolated, ...(gateway === undefined ? {} : { gateway }) };
        const path = `OpenSiteRecovery/networks/${encodeURIComponent(name)}`;
        const made = await ownRequest(management, "PUT", path, { properties });
        return viewOf(made, () => ({ name, subnet, isolated: isIsolated }));
      }),
    );
  network
    .command("delete <name>")
    .description("delete a network that no protected item uses")
    .action(
      managed(async (management, name: string) => {
        await ownRequest(
          management,
          "DELETE",
          `OpenSiteRecovery/networks/${encodeURIComponent(name)}`,
        );
      }),
    );
}
