import { dirname } from "node:path";

import type { Log } from "@osr/base/log";
import { jsonLinesLog } from "@osr/base/platform/json-lines-log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB, MINUTE_MS } from "@osr/base/units";
import type { Freezer } from "@osr/block-device/freezer";
import { GUARD_LIMIT_MS, createSystemFreezer } from "@osr/block-device/system-freezer";
import { sysfsCounters } from "@osr/block-device/sysfs-counters";
import { TracefsTracker } from "@osr/block-device/tracefs-tracker";
import { HttpsClient } from "@osr/https/https-client";
import { createMobilityService } from "@osr/mobility-service/mobility-service";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";
import { httpsProcessServer } from "@osr/mobility-service/process-server-client";

import { type Configuration, readConfiguration, readNamedFile } from "./configuration.ts";
import { withoutFreezing } from "./freeze-fault.ts";
import { machineFacts } from "./machine-facts.ts";
import { pointScripts } from "./point-script.ts";
import { type ProtectedDisk, openProtectedDisks } from "./protected-disks.ts";
import { openSerialHook } from "./serial-hook.ts";
import { startReasonOf } from "./start-reason.ts";
import { statusWriter } from "./status-file.ts";

const AGENT_VERSION = "0.1.0";
const TRACKER_INSTANCE = "osr-mobility-service";
const RING_BYTES_PER_CPU = 4 * MIB;
/** While tests hold the thaw, they compare whole disks. */
const HOOK_GUARD_LIMIT_MS = MINUTE_MS;
const REQUEST_TIMEOUT_MS = MINUTE_MS;

const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };

/** Composes the mobility service of this machine and runs it until SIGTERM or SIGINT. */
export async function runMobilityService(configurationFile: string): Promise<void> {
  const configuration = readConfiguration(configurationFile);
  const log = jsonLinesLog((line) => process.stderr.write(line), "info", {
    role: "mobility-service",
  });
  await using open = new AsyncDisposableStack();
  const client = open.use(clientOf(configuration));
  const disks = await openProtectedDisks(configuration.disks, {
    log,
    randomness: systemRandomness,
  });
  for (const { reader } of disks) open.use(reader);
  const tracker = open.use(trackerOf(disks));
  const { hookDevice, testFaults, scripts } = configuration;
  const hook = hookDevice === undefined ? undefined : open.use(openSerialHook(hookDevice));
  if (testFaults !== undefined)
    log.warn("TEST FAULTS ARE PLANTED: recovery points of this machine are worthless", {
      ...testFaults,
    });
  const service = createMobilityService({
    ...ports,
    log,
    agentVersion: AGENT_VERSION,
    machine: machineFacts(),
    disks,
    tracker,
    counters: sysfsCounters(disks.map(({ disk }) => disk)),
    startReason: startReasonOf(dirname(configuration.statusFile)),
    freezer: freezerOf(configuration, disks, log),
    client: httpsProcessServer(client),
    pointIntervalSeconds: configuration.pointIntervalSeconds,
    limits: REPLICATION_LIMITS,
    scripts: scripts === undefined ? undefined : pointScripts(scripts),
    pause: pauseThread,
    quietWindow: testFaults?.quietWindow ?? "required",
    beforeThaw: hook?.beforeThaw,
    writeStatus: statusWriter(configuration.statusFile),
  });
  const stop = (): void => void service.stop();
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  await service.run();
}

function clientOf(configuration: Configuration): HttpsClient {
  const { host, port } = configuration.processServer;
  return new HttpsClient({
    baseUrl: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    authorityPem: readNamedFile("authority", configuration.authority),
    identity: {
      certificatePem: readNamedFile("certificate", configuration.certificate),
      privateKeyPem: readNamedFile("privateKey", configuration.privateKey),
    },
    // The batches, a heartbeat, the opening of a session and a comparison.
    socketsMax: REPLICATION_LIMITS.batchesHeldMax + 3,
    timeoutMs: REQUEST_TIMEOUT_MS,
    scheduler: systemScheduler,
  });
}

function trackerOf(disks: readonly ProtectedDisk[]): TracefsTracker {
  return new TracefsTracker({
    name: TRACKER_INSTANCE,
    ringBytesPerCpu: RING_BYTES_PER_CPU,
    disks: disks.map(({ disk, eventDevices }) => ({
      eventDevices,
      sectorCount: disk.sizeBytes / 512,
      ignoredRanges: disk.swapRanges,
    })),
  });
}

function freezerOf(
  { hookDevice, testFaults }: Configuration,
  disks: readonly ProtectedDisk[],
  log: Log,
): Freezer {
  const guardLimitMs = hookDevice === undefined ? GUARD_LIMIT_MS : HOOK_GUARD_LIMIT_MS;
  const freezer = createSystemFreezer({
    ...ports,
    log,
    disks: disks.map(({ disk }) => disk),
    guardLimitMs,
  });
  return testFaults?.freeze === "skipped" ? withoutFreezing(freezer) : freezer;
}

const cell = new Int32Array(new SharedArrayBuffer(4));

function pauseThread(ms: number): void {
  Atomics.wait(cell, 0, 0, ms);
}
