import type { ManagementCommands } from "./management-command.ts";
import { time, viewOfList } from "./view.ts";
import { listed } from "./requests.ts";

/** `osr event list`: what has happened; what is wrong now is `osr item health` and `osr vault health`. */
export function addEventCommands({ program, managed }: ManagementCommands): void {
  const event = program.command("event").description("what has happened");
  event
    .command("list")
    .description("events, newest first")
    .action(
      managed(async ({ siteRecovery, vault, resourceGroup }) =>
        viewOfList(
          await listed(siteRecovery.replicationEvents.list(vault, resourceGroup)),
          ({ properties }) => ({
            time: time(properties?.timeOfOccurrence),
            severity: properties?.severity,
            code: properties?.eventCode,
            object: properties?.affectedObjectFriendlyName,
            description: properties?.description,
          }),
        ),
      ),
    );
}
