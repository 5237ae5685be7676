import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { MobilityService } from "@osr/mobility-service/mobility-service";

import type { MachineSettings, SettingsSource } from "./settings-source.ts";

const RETRY_MS = 30 * SECOND_MS;

/** A mobility service that is ready to run; disposing of it lets go of disks and tracker. */
export type OpenReplication = AsyncDisposable & {
  readonly service: MobilityService;
  /** Leaves out the disks of these identities from now on; the others go on as they are. */
  readonly exclude: (disks: readonly string[]) => void;
};

export type SupervisorPorts = {
  readonly source: SettingsSource;
  readonly open: (settings: MachineSettings) => Promise<OpenReplication>;
  /** Tells the status file that nothing is replicated, and why. */
  readonly writeIdle: (reason: string | undefined) => Promise<void>;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/**
 * Runs the mobility service while the machine is to be protected, and nothing of it otherwise: no tracking, no freezing, no
 * sending. Ends with the signal, or when the service ends by itself.
 */
export async function superviseMachine(ports: SupervisorPorts, signal: AbortSignal): Promise<void> {
  const { source, log, scheduler } = ports;
  while (!signal.aborted) {
    const settings = source.current;
    if (settings?.isProtected !== true) {
      source.note(undefined);
      await ports.writeIdle(settings?.stoppedReason);
      await source.changed(signal);
      continue;
    }
    try {
      if ((await protect(ports, settings, signal)) === "ended") return;
    } catch (error) {
      if (!source.isPatient) throw error;
      log.error("the machine cannot be replicated; it is tried again", { error });
      await ports.writeIdle(messageOf(error));
      await scheduler.sleep(RETRY_MS, signal).catch(() => undefined);
    }
  }
}

/** Runs until the signal, until settings want no replication any more, or until the service ends. */
async function protect(
  { source, open, log }: SupervisorPorts,
  first: MachineSettings,
  signal: AbortSignal,
): Promise<"stopped" | "ended"> {
  await using replication = await open(first);
  const { service } = replication;
  const over = new AbortController();
  let wasAsked = false;
  const watch = async (): Promise<void> => {
    const ended = AbortSignal.any([signal, over.signal]);
    // They may have changed while the disks were opened.
    for (let before = first; ;) {
      const settings = source.current;
      if (ended.aborted || settings?.isProtected !== true) break;
      apply(replication, settings, before);
      before = settings;
      await source.changed(ended);
    }
    wasAsked = !over.signal.aborted;
    if (wasAsked && !signal.aborted) log.info("replication stops, as the settings want it");
    await service.stop();
  };
  const watching = watch();
  try {
    await service.run();
  } finally {
    over.abort();
    await watching;
  }
  return wasAsked ? "stopped" : "ended";
}

function apply(
  { service, exclude }: OpenReplication,
  settings: MachineSettings,
  before: MachineSettings,
): void {
  const { pointIntervalSeconds, appPointIntervalSeconds, resyncRequest } = settings;
  exclude(settings.excludedDisks);
  service.setIntervals({
    pointSeconds: pointIntervalSeconds,
    appPointSeconds: appPointIntervalSeconds,
  });
  if (resyncRequest > before.resyncRequest) service.requestResync();
}
