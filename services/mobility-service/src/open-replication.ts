import { dirname } from "node:path";

import type { Log } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB, MINUTE_MS } from "@osr/base/units";
import type { Freezer } from "@osr/block-device/freezer";
import { sysfsCounters } from "@osr/block-device/sysfs-counters";
import { GUARD_LIMIT_MS, createSystemFreezer } from "@osr/block-device/system-freezer";
import { SystemTracker } from "@osr/block-device/system-tracker";
import type { MachineDescription } from "@osr/contracts/agent-protocol";
import type { CertificateLife } from "@osr/mobility-service/machine-health";
import { createMobilityService } from "@osr/mobility-service/mobility-service";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";
import type { ProcessServerAssignment } from "@osr/mobility-service/process-server-assignment";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";

import type { Configuration } from "./configuration.ts";
import { withoutFreezing } from "./freeze-fault.ts";
import { openKeptStateFile } from "./kept-state-file.ts";
import type { OpenReplication } from "./machine-supervisor.ts";
import { pointScripts } from "./point-script.ts";
import { ProtectedDisks } from "./protected-disks.ts";
import { refusedDisks, watchForReplicatedData } from "./self-protection.ts";
import { openSerialHook } from "./serial-hook.ts";
import { startReasonOf } from "./start-reason.ts";
import { TRACKER_INSTANCE } from "./trace-instances.ts";

export const AGENT_VERSION = "0.1.0";
const RING_BYTES_PER_CPU = 4 * MIB;
/** While tests hold the thaw, they compare whole disks. */
const HOOK_GUARD_LIMIT_MS = MINUTE_MS;

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

export type ReplicationParts = {
  readonly configuration: Configuration;
  readonly excludedDisks: readonly string[];
  readonly machine: MachineDescription;
  readonly processServers: ProcessServerAssignment;
  readonly pointIntervalSeconds: number;
  readonly certificate: () => CertificateLife;
  readonly writeStatus: (status: MobilityStatus) => Promise<void>;
  readonly log: Log;
};

/** Opens the disks of this machine, and composes the mobility service that replicates them. Throws NO_DISKS, TRACEFS_UNAVAILABLE. */
export async function openReplication(parts: ReplicationParts): Promise<OpenReplication> {
  const { configuration, excludedDisks, log } = parts;
  await using open = new AsyncDisposableStack();
  const diskWatch = new ProtectedDisks(configuration.disks, { ...ports, log }, excludedDisks);
  const inventory = await diskWatch.inventory();
  const disks = await diskWatch.open(inventory);
  for (const { reader } of disks) open.use(reader);
  const tracker = open.use(
    new SystemTracker({
      name: TRACKER_INSTANCE,
      ringBytesPerCpu: RING_BYTES_PER_CPU,
      onMeans: (means, reason) => log.info("how changes are tracked", { means, reason }),
    }),
  );
  const { hookDevice, testFaults, scripts } = configuration;
  const hook = hookDevice === undefined ? undefined : open.use(openSerialHook(hookDevice));
  if (testFaults !== undefined)
    log.warn("TEST FAULTS ARE PLANTED: recovery points of this machine are worthless", {
      ...testFaults,
    });
  const folder = dirname(configuration.statusFile);
  const service = createMobilityService({
    ...ports,
    ...parts,
    agentVersion: AGENT_VERSION,
    standing: refusedDisks(inventory),
    disks,
    diskWatch,
    tracker,
    kept: open.use(openKeptStateFile(folder, log)).kept,
    counters: sysfsCounters(),
    startReason: startReasonOf(folder),
    freezer: freezerOf(configuration, log),
    limits: REPLICATION_LIMITS,
    scripts: scripts === undefined ? undefined : pointScripts(scripts),
    pause: pauseThread,
    quietWindow: testFaults?.quietWindow ?? "required",
    beforeThaw: hook?.beforeThaw,
  });
  open.use(watchForReplicatedData(disks, service, { log, scheduler: systemScheduler }));
  const opened = open.move();
  return {
    service,
    exclude: (disks) => diskWatch.exclude(disks),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function freezerOf({ hookDevice, testFaults }: Configuration, log: Log): Freezer {
  const guardLimitMs = hookDevice === undefined ? GUARD_LIMIT_MS : HOOK_GUARD_LIMIT_MS;
  const freezer = createSystemFreezer({ ...ports, log, guardLimitMs });
  return testFaults?.freeze === "skipped" ? withoutFreezing(freezer) : freezer;
}

const cell = new Int32Array(new SharedArrayBuffer(4));

function pauseThread(ms: number): void {
  Atomics.wait(cell, 0, 0, ms);
}
