import { jobView, viewOfList } from "./view.ts";
import type { ManagementCommands } from "./management-command.ts";
import { ownRequest } from "./own-provider.ts";

type Replica = {
  readonly name: string;
  readonly properties: {
    readonly friendlyName: string;
    readonly state: string;
    readonly isLocal: boolean;
  };
};

/** `osr replica …`: machines that run at the recovery site. */
export function addReplicaCommands({ program, managed }: ManagementCommands): void {
  const replica = program.command("replica").description("machines that run at the recovery site");
  replica
    .command("list")
    .description("all of them, also those whose protection has ended")
    .action(
      managed(async (management) => {
        const { value } = await ownRequest(management, "GET", "OpenSiteRecovery/replicas");
        return viewOfList(value as readonly Replica[], ({ name, properties }) => ({
          name,
          machine: properties.friendlyName,
          state: properties.state,
          onLocalStorage: properties.isLocal,
        }));
      }),
    );
  replica
    .command("delete <name>")
    .description(
      "delete a machine that no protected item has any more, with all that it has written",
    )
    .action(
      managed(async (management, name: string) => {
        await ownRequest(
          management,
          "DELETE",
          `OpenSiteRecovery/replicas/${encodeURIComponent(name)}`,
        );
        return jobView(undefined);
      }),
    );
}
