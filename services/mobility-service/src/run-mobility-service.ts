import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Log } from "@osr/base/log";
import { jsonLinesLog } from "@osr/base/platform/json-lines-log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { identityFile } from "@osr/control-link/role-identity";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";
import { ReplicaService } from "@osr/mobility-service/replica-service";

import { type Configuration, readConfiguration } from "./configuration.ts";
import { ConfigurationServerLink } from "./configuration-server-link.ts";
import { configuredProcessServers } from "./configured-process-servers.ts";
import { becomeAgent } from "./living-agent.ts";
import { bindMachine, certificateLifeOf } from "./machine-binding.ts";
import { machineFacts } from "./machine-facts.ts";
import { superviseMachine } from "./machine-supervisor.ts";
import { openReplication } from "./open-replication.ts";
import { ProtectedDisks } from "./protected-disks.ts";
import type { SettingsSource } from "./settings-source.ts";
import { statusWriter } from "./status-file.ts";

/** Beside the configuration: which machine this enrolment belongs to. */
const BINDING_FILE = "identity.json";

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
  const stopping = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => stopping.abort());
  await using open = new AsyncDisposableStack();
  const { enrolmentFile } = configuration;
  if (enrolmentFile === undefined) {
    const { machineId, processServer, source } = configuredProcessServers(configuration, open);
    const enrolment = {
      machineId,
      upstream: processServer,
      bindingFolder: dirname(configurationFile),
    };
    await run(configuration, enrolment, () => source, { log, signal: stopping.signal });
    return;
  }
  const link = new ConfigurationServerLink(identityFile(enrolmentFile), configuration, log);
  const bindingFolder = dirname(enrolmentFile);
  const enrolment = {
    machineId: link.identity.id,
    upstream: link.identity.configurationServer,
    bindingFolder,
  };
  const begin = (): SettingsSource => {
    const running = link.run(stopping.signal);
    open.defer(() => running);
    open.defer(() => stopping.abort());
    return link;
  };
  await run(configuration, enrolment, begin, { log, signal: stopping.signal });
}

type Enrolment = {
  readonly machineId: Parameters<typeof bindMachine>[1]["machineId"];
  /** Whom the machine reports to, for people. */
  readonly upstream: string;
  readonly bindingFolder: string;
};

async function run(
  configuration: Configuration,
  enrolment: Enrolment,
  begin: () => SettingsSource,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<void> {
  const machine = machineFacts();
  const writeStatus = statusWriter(configuration.statusFile);
  const { disks } = await new ProtectedDisks(configuration.disks, { ...ports, log }).inventory();
  const mismatch = bindMachine(join(enrolment.bindingFolder, BINDING_FILE), {
    machineId: enrolment.machineId,
    biosUuid: machine.biosUuid,
    disks: disks.map(({ identity }) => identity),
  });
  if (mismatch !== undefined) {
    const processServer = enrolment.upstream;
    const replica = new ReplicaService({ ...ports, log, mismatch, processServer, writeStatus });
    signal.addEventListener("abort", () => void replica.stop(), { once: true });
    return replica.run();
  }
  const source = begin();
  await superviseMachine(
    {
      source,
      open: ({ pointIntervalSeconds, excludedDisks }) =>
        openReplication({
          configuration,
          excludedDisks,
          machine,
          processServers: source.processServers,
          pointIntervalSeconds,
          certificate: () => certificateLifeOf(source.certificatePem),
          writeStatus: (status) => {
            source.note(status);
            return writeStatus(status);
          },
          log,
        }),
      writeIdle: (reason) => writeStatus(idleStatus(enrolment.upstream, reason)),
      scheduler: systemScheduler,
      log,
    },
    signal,
  );
}

function idleStatus(upstream: string, reason: string | undefined): MobilityStatus {
  return {
    state: "idle",
    unixMs: Math.floor(systemClock.unixMs()),
    processServer: upstream,
    disks: [],
    pointsMade: 0,
    pointsMissed: 0,
    missedReasons: {},
    health:
      reason === undefined
        ? []
        : [
            {
              code: "NOT_REPLICATED",
              message: reason,
              hint: "Look at the machine's replication in the vault.",
            },
          ],
  };
}
