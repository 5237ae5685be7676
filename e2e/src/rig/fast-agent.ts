import { MINUTE_MS } from "@osr/base/units";

import { agentCommand } from "./agent-command.ts";
import { installEnrolment } from "./guest-agent.ts";
import type { Machine } from "./machine.ts";
import { HOOK_DEVICE } from "./serial-ports.ts";
import type { Site } from "./site.ts";

const POINT_INTERVAL_SECONDS = 15;

export type FastAgentOptions = {
  /** Faults for the agent to commit, so that the scenario can show that it would notice. */
  readonly testFaults?: Readonly<Record<string, string>>;
};

/** Enrols a machine of the fast rig under `name` and starts its agent; gives the id of the machine. */
export async function startFastAgent(
  machine: Machine,
  site: Site,
  name: string,
  options: FastAgentOptions,
): Promise<string> {
  const { machineId, folder } = await site.enrol(name, POINT_INTERVAL_SECONDS);
  await installEnrolment(machine.shell, folder, { hookDevice: HOOK_DEVICE, ...options });
  const command = `${agentCommand("node", "/agent")} run --config /etc/osr/mobility-service.json`;
  await machine.shell.must(
    `mkdir -p /run/osr; (exec setsid ${command}) >/run/agent.log 2>&1 </dev/null & echo $! >/run/agent.pid`,
    MINUTE_MS,
  );
  return machineId;
}
