import type { ManagementCommands } from "./management-command.ts";
import { itemNamed } from "./places.ts";
import { isShared, kindOf, recoveryPoints } from "./point-choice.ts";
import { time, viewOfList } from "./view.ts";

/** `osr point list`. */
export function addPointCommands({ program, managed }: ManagementCommands): void {
  const point = program.command("point").description("recovery points of protected items");
  point
    .command("list <item>")
    .description("the recovery points of an item, newest first")
    .action(
      managed(async (management, item: string) =>
        viewOfList(
          await recoveryPoints(management, await itemNamed(management, item)),
          (found) => ({
            name: found.name,
            time: time(found.properties?.recoveryPointTime),
            kind: kindOf(found),
            shared: isShared(found),
          }),
        ),
      ),
    );
}
