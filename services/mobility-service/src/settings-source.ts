import type { AgentSettings } from "@osr/contracts/site-protocol";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";
import type { ProcessServerAssignment } from "@osr/mobility-service/process-server-assignment";

import type { Configuration } from "./configuration.ts";

/** What the agent is to do, wherever that comes from. */
export type MachineSettings = Pick<
  AgentSettings,
  "isProtected" | "stoppedReason" | "excludedDisks" | "resyncRequest" | "pointIntervalSeconds"
> & {
  /** Absent: every point has the scripts around it. */
  readonly appPointIntervalSeconds?: number | undefined;
};

/** Where the agent's settings come from: its configuration file, or its configuration server. */
export interface SettingsSource {
  /** Undefined: not known yet. */
  readonly current: MachineSettings | undefined;
  /** Of a machine that is protected. */
  readonly processServers: ProcessServerAssignment;
  /** Of the machine, as it is at the moment. */
  readonly certificatePem: string;
  /** Where replication cannot begin: true, try again later; false, end with the error. */
  readonly isPatient: boolean;
  /** Resolves when there are other settings, or the signal is aborted. */
  changed(signal: AbortSignal): Promise<void>;
  /** Told about once a second; undefined: nothing is replicated. */
  note(status: MobilityStatus | undefined): void;
}

/** The settings of a configuration file never change, and protect the machine. */
export function fileSettings(
  { pointIntervalSeconds }: Pick<Configuration, "pointIntervalSeconds">,
  processServers: ProcessServerAssignment,
  certificatePem: string,
): SettingsSource {
  return {
    current: { isProtected: true, excludedDisks: [], resyncRequest: 0, pointIntervalSeconds },
    processServers,
    certificatePem,
    isPatient: false,
    changed: (signal) =>
      new Promise((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener("abort", () => resolve(), { once: true });
      }),
    note: () => undefined,
  };
}
