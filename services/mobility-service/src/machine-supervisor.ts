import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { MobilityService } from "@osr/mobility-service/mobility-service";

import type { MachineSettings, SettingsSource } from "./settings-source.ts";

const RETRY_MS = 30 * SECOND_MS;

/** A mobility service that is ready to run; disposing of it lets go of disks and tracker. */
export type OpenReplication = AsyncDisposable & { readonly service: MobilityService };

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

/** Runs until the signal, until settings want another selection of disks or none, or until the service ends. */
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
    apply(service, first, undefined);
    for (let before = first; ;) {
      await source.changed(ended);
      const settings = source.current;
      if (ended.aborted || settings === undefined || mustRestart(before, settings)) break;
      apply(service, settings, before);
      before = settings;
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

function mustRestart(before: MachineSettings, after: MachineSettings): boolean {
  const disks = (settings: MachineSettings): string => settings.excludedDisks.toSorted().join("\n");
  return !after.isProtected || disks(before) !== disks(after);
}

function apply(
  service: MobilityService,
  settings: MachineSettings,
  before: MachineSettings | undefined,
): void {
  const { pointIntervalSeconds, appPointIntervalSeconds, resyncRequest } = settings;
  service.setIntervals({
    pointSeconds: pointIntervalSeconds,
    appPointSeconds: appPointIntervalSeconds,
  });
  if (before !== undefined && resyncRequest > before.resyncRequest) service.requestResync();
}
