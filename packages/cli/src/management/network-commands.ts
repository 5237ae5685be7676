import type { ManagementCommands } from "./management-command.ts";
import { networks } from "./places.ts";
import { viewOfList } from "./view.ts";

/** `osr network list`. */
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
}
