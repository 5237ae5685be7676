import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";

import { must } from "@osr/base/assert";
import type { Log } from "@osr/base/log";
import { jsonLinesLog } from "@osr/base/platform/json-lines-log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { Service } from "@osr/base/service";
import { MIB, MINUTE_MS } from "@osr/base/units";
import type { Freezer } from "@osr/block-device/freezer";
import { GUARD_LIMIT_MS, createSystemFreezer } from "@osr/block-device/system-freezer";
import { sysfsCounters } from "@osr/block-device/sysfs-counters";
import { TracefsTracker } from "@osr/block-device/tracefs-tracker";
import { HttpsClient } from "@osr/https/https-client";
import { createMobilityService } from "@osr/mobility-service/mobility-service";
import { ConfiguredProcessServers } from "@osr/mobility-service/process-server-assignment";
import { ReplicaService } from "@osr/mobility-service/replica-service";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";
import { httpsProcessServer } from "@osr/mobility-service/process-server-client";

import {
  type Configuration,
  type ProcessServerAddress,
  readConfiguration,
  readNamedFile,
} from "./configuration.ts";
import { withoutFreezing } from "./freeze-fault.ts";
import { openKeptStateFile } from "./kept-state-file.ts";
import { becomeAgent } from "./living-agent.ts";
import { bindMachine, certificateLifeOf, machineIdOf } from "./machine-binding.ts";
import { machineFacts } from "./machine-facts.ts";
import { pointScripts } from "./point-script.ts";
import { ProtectedDisks } from "./protected-disks.ts";
import { refusedDisks, watchForReplicatedData } from "./self-protection.ts";
import { openSerialHook } from "./serial-hook.ts";
import { startReasonOf } from "./start-reason.ts";
import { statusWriter } from "./status-file.ts";
import { TRACKER_INSTANCE } from "./trace-instances.ts";

const AGENT_VERSION = "0.1.0";
/** Beside the configuration: which machine this enrolment belongs to. */
const IDENTITY_FILE = "identity.json";
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
  const folder = dirname(configuration.statusFile);
  mkdirSync(folder, { recursive: true });
  becomeAgent(folder);
  const credentials = {
    authorityPem: readNamedFile("authority", configuration.authority),
    certificatePem: readNamedFile("certificate", configuration.certificate),
    privateKeyPem: readNamedFile("privateKey", configuration.privateKey),
  };
  await using open = new AsyncDisposableStack();
  const diskWatch = new ProtectedDisks(configuration.disks, { ...ports, log });
  const inventory = await diskWatch.inventory();
  const machine = machineFacts();
  const writeStatus = statusWriter(configuration.statusFile);
  const mismatch = bindMachine(join(dirname(configurationFile), IDENTITY_FILE), {
    machineId: machineIdOf(credentials.certificatePem),
    biosUuid: machine.biosUuid,
    disks: inventory.disks.map(({ identity }) => identity),
  });
  if (mismatch !== undefined) {
    const processServer = addressOf(must(configuration.processServers[0], "first"));
    return runService(new ReplicaService({ ...ports, log, mismatch, processServer, writeStatus }));
  }
  const processServers = new ConfiguredProcessServers(
    configuration.processServers.map((server) => ({
      address: addressOf(server),
      client: httpsProcessServer(open.use(clientOf(server, credentials))),
    })),
    systemClock,
  );
  const disks = await diskWatch.open(inventory);
  for (const { reader } of disks) open.use(reader);
  const tracker = open.use(newTracker());
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
    machine,
    certificate: certificateLifeOf(credentials.certificatePem),
    standing: refusedDisks(inventory),
    disks,
    diskWatch,
    tracker,
    kept: open.use(openKeptStateFile(folder, log)).kept,
    counters: sysfsCounters(),
    startReason: startReasonOf(folder),
    freezer: freezerOf(configuration, log),
    processServers,
    pointIntervalSeconds: configuration.pointIntervalSeconds,
    limits: REPLICATION_LIMITS,
    scripts: scripts === undefined ? undefined : pointScripts(scripts),
    pause: pauseThread,
    quietWindow: testFaults?.quietWindow ?? "required",
    beforeThaw: hook?.beforeThaw,
    writeStatus,
  });
  using _ = watchForReplicatedData(disks, service, { log, scheduler: systemScheduler });
  await runService(service);
}

async function runService(service: Service): Promise<void> {
  const stop = (): void => void service.stop();
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  await service.run();
}

function addressOf({ host, port }: ProcessServerAddress): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

type Credentials = {
  readonly authorityPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
};

function clientOf(
  server: ProcessServerAddress,
  { authorityPem, ...identity }: Credentials,
): HttpsClient {
  return new HttpsClient({
    baseUrl: `https://${addressOf(server)}`,
    authorityPem,
    identity,
    // The batches, a heartbeat, the opening of a session and a comparison.
    socketsMax: REPLICATION_LIMITS.batchesHeldMax + 3,
    timeoutMs: REQUEST_TIMEOUT_MS,
    scheduler: systemScheduler,
  });
}

function newTracker(): TracefsTracker {
  return new TracefsTracker({ name: TRACKER_INSTANCE, ringBytesPerCpu: RING_BYTES_PER_CPU });
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
