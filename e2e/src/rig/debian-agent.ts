import { installEnrolment } from "./guest-agent.ts";
import type { Machine } from "./machine.ts";
import { HOOK_DEVICE } from "./serial-ports.ts";
import type { Site } from "./site.ts";

/** Command that prints the end of the agent's log on a Debian machine. */
export const DEBIAN_AGENT_LOG = "journalctl -q -o cat -n 40 -u osr-mobility-service";

/** Enrols a Debian machine under `name` and starts the agent that is installed in it; gives the id of the machine. */
export async function startDebianAgent(
  machine: Machine,
  site: Site,
  options: { readonly name: string; readonly pointIntervalSeconds: number },
): Promise<string> {
  const { machineId, folder } = await site.enrol(options.name, options.pointIntervalSeconds);
  await installEnrolment(machine.shell, folder, { hookDevice: HOOK_DEVICE });
  await machine.shell.must("systemctl start osr-mobility-service");
  return machineId;
}
