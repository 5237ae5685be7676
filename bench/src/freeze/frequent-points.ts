import { must } from "@osr/base/assert";
import { jsonLinesLog } from "@osr/base/platform/json-lines-log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB, MINUTE_MS } from "@osr/base/units";
import { GUARD_LIMIT_MS, createSystemFreezer } from "@osr/block-device/system-freezer";
import { sysfsCounters } from "@osr/block-device/sysfs-counters";
import { SystemTracker } from "@osr/block-device/system-tracker";
import { HttpsClient } from "@osr/https/https-client";
import { createMobilityService } from "@osr/mobility-service/mobility-service";
import { ConfiguredProcessServers } from "@osr/mobility-service/process-server-assignment";
import { httpsProcessServer } from "@osr/mobility-service/process-server-client";
import { REPLICATION_LIMITS } from "@osr/mobility-service/replication-limits";
import { configuredFiles, readConfiguration } from "@osr/service-mobility-service/configuration";
import { machineFacts } from "@osr/service-mobility-service/machine-facts";
import { becomeWithFlags } from "@osr/service-mobility-service/node-flags";
import { ProtectedDisks } from "@osr/service-mobility-service/protected-disks";
import { statusWriter } from "@osr/service-mobility-service/status-file";

/**
 * The mobility service, put together as the installed one but for the time between its points: the configuration file allows
 * no less than 15 s, and fifty points would take a quarter of an hour for each load.
 */
const POINT_INTERVAL_SECONDS = 2;
const TRACKER_INSTANCE = "osr-bench-points";
const RING_BYTES_PER_CPU = 4 * MIB;
const cell = new Int32Array(new SharedArrayBuffer(4));

async function main(configurationFile: string): Promise<void> {
  const ports = { clock: systemClock, scheduler: systemScheduler, randomness: systemRandomness };
  const configuration = readConfiguration(configurationFile);
  const { host, port } = must(configuration.processServers[0], "process server");
  const { authorityPem, ...identity } = configuredFiles(configuration);
  const log = jsonLinesLog((line) => process.stderr.write(line));
  await using open = new AsyncDisposableStack();
  const client = open.use(
    new HttpsClient({
      baseUrl: `https://${host}:${port}`,
      authorityPem,
      identity,
      socketsMax: REPLICATION_LIMITS.batchesHeldMax + 2,
      timeoutMs: MINUTE_MS,
      scheduler: systemScheduler,
    }),
  );
  const diskWatch = new ProtectedDisks(configuration.disks, { ...ports, log });
  const disks = await diskWatch.open(await diskWatch.inventory());
  for (const { reader } of disks) open.use(reader);
  const tracker = open.use(
    new SystemTracker({ name: TRACKER_INSTANCE, ringBytesPerCpu: RING_BYTES_PER_CPU }),
  );
  const service = createMobilityService({
    ...ports,
    log,
    agentVersion: "bench",
    machine: machineFacts(),
    disks,
    diskWatch,
    tracker,
    freezer: createSystemFreezer({ ...ports, log, guardLimitMs: GUARD_LIMIT_MS }),
    processServers: new ConfiguredProcessServers(
      [{ address: "the process server", client: httpsProcessServer(client) }],
      ports.clock,
    ),
    pointIntervalSeconds: POINT_INTERVAL_SECONDS,
    limits: REPLICATION_LIMITS,
    pause: (ms) => void Atomics.wait(cell, 0, 0, ms),
    quietWindow: "required",
    counters: sysfsCounters(),
    startReason: "AGENT_RESTARTED",
    writeStatus: statusWriter(configuration.statusFile),
  });
  process.once("SIGTERM", () => void service.stop());
  await service.run();
}

becomeWithFlags();
// `run --config FILE`, as the installed service takes it.
await main(must(process.argv[4], "a configuration file"));
