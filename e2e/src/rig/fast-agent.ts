import { readFile } from "node:fs/promises";

import { must } from "@osr/base/assert";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";

import { agentCommand } from "./agent-command.ts";
import { installEnrolment, untilAgent } from "./guest-agent.ts";
import type { Machine } from "./machine.ts";
import { HOOK_DEVICE } from "./serial-ports.ts";
import type { Site } from "./site.ts";

const POINT_INTERVAL_SECONDS = 15;
const CONFIGURATION = "/etc/osr/mobility-service.json";

const STATUS_FILE = "/run/osr/status.json";
const STATUS_MS_MAX = 30 * SECOND_MS;

export type FastAgentOptions = {
  /** Of the process servers on the host, in order; the site's where absent. */
  readonly processServerPorts?: readonly number[];
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
  const { processServerPorts, ...faults } = options;
  const enrolment = await site.enrol(name, POINT_INTERVAL_SECONDS, processServerPorts);
  const { machineId, folder } = enrolment;
  await installFastAgent(machine, folder, faults);
  await restartFastAgent(machine);
  return machineId;
}

/** Enrols a machine of the fast rig with the site's configuration server and starts its agent, which does nothing until it is told to; gives the id of the machine. */
export async function enrolFastAgent(machine: Machine, site: Site, name: string): Promise<string> {
  const { shell } = machine;
  const token = await readFile(await site.enrolmentToken(name));
  await shell.must("mkdir -p /etc/osr /run/osr");
  await shell.writeFile("/etc/osr/enrolment.token", token, "600");
  const configuration = JSON.stringify({ hookDevice: HOOK_DEVICE });
  await shell.writeFile(CONFIGURATION, Buffer.from(configuration), "600");
  const said = await shell.must(
    `${agentCommand("node", "/agent")} enrol --token /etc/osr/enrolment.token --state /etc/osr --config ${CONFIGURATION}`,
    2 * MINUTE_MS,
  );
  await restartFastAgent(machine);
  return must(/^enrolled as (\S+)/m.exec(said)?.[1], "the agent says who it is");
}

/** Copies the files of an enrolment to the machine: the first time, and when a reset has emptied its memory. */
export async function installFastAgent(
  machine: Machine,
  folder: string,
  options: Omit<FastAgentOptions, "processServerPorts">,
): Promise<void> {
  await installEnrolment(machine.shell, folder, { hookDevice: HOOK_DEVICE, ...options });
}

/** Starts the agent that is installed. */
export async function restartFastAgent(machine: Machine): Promise<void> {
  const command = `${agentCommand("node", "/agent")} run --config ${CONFIGURATION}`;
  await machine.shell.must(
    `mkdir -p /run/osr; (exec setsid ${command}) >/run/agent.log 2>&1 </dev/null & echo $! >/run/agent.pid`,
    MINUTE_MS,
  );
}

/** Ends the agent with SIGKILL, whatever it is doing. */
export async function killFastAgent(machine: Machine): Promise<void> {
  await machine.shell.must("kill -9 $(cat /run/agent.pid)");
}

/** Ends the agent as an administrator would, and waits until it is gone. */
export async function stopFastAgent(machine: Machine): Promise<void> {
  await machine.shell.must(
    "pid=$(cat /run/agent.pid); kill -TERM $pid; n=0; while kill -0 $pid 2>/dev/null; do n=$((n + 1)); [ $n -gt 100 ] && exit 1; sleep 0.2; done",
    MINUTE_MS,
  );
}

/** What the agent said last of itself; it may have done more since. */
export async function fastAgentStatus<T>({ shell }: Machine): Promise<T> {
  return JSON.parse(await shell.must(`cat ${STATUS_FILE}`)) as T;
}

/** What the agent says of itself when it knows all that it has done until now: it writes about one a second. */
export async function newFastAgentStatus<T extends { readonly unixMs: number }>(
  machine: Machine,
  signal: AbortSignal,
): Promise<T> {
  const { unixMs } = await fastAgentStatus<T>(machine);
  const status = await untilAgent(machine.shell, {
    statusFile: STATUS_FILE,
    logCommand: "tail -n 30 /run/agent.log",
    what: "a new status",
    timeoutMs: STATUS_MS_MAX,
    done: (status) => Number(status["unixMs"]) > unixMs,
    signal,
  });
  return status as unknown as T;
}
