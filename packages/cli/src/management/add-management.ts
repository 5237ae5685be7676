import type { Command } from "commander";

import type { Shown } from "../program.ts";
import { addContextCommands } from "./context-commands.ts";
import { addEventCommands } from "./event-commands.ts";
import { addFabricCommands } from "./fabric-commands.ts";
import { addItemCommands } from "./item-commands.ts";
import { addJobCommands } from "./job-commands.ts";
import type { ManagementCommands } from "./management-command.ts";
import type { ManagementPorts } from "./management-ports.ts";
import { addNetworkCommands } from "./network-commands.ts";
import { addPointCommands } from "./point-commands.ts";
import { addPolicyCommands } from "./policy-commands.ts";
import { addReplicaCommands } from "./replica-commands.ts";
import { addVaultCommands } from "./vault-commands.ts";

/** Everything that is done through a vault's management API. */
export function addManagement(
  program: Command,
  ports: ManagementPorts,
  shown: Shown,
  context: () => string | undefined,
): void {
  const commands: ManagementCommands = {
    program,
    managed: (work) => shown(async (...args) => work(await ports.connect(context()), ...args)),
  };
  addContextCommands(program, ports, shown);
  addVaultCommands(commands);
  addFabricCommands(commands);
  addPolicyCommands(commands);
  addItemCommands(commands);
  addPointCommands(commands);
  addJobCommands(commands);
  addEventCommands(commands);
  addNetworkCommands(commands);
  addReplicaCommands(commands);
}
