import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setInterval } from "node:timers";

import { must } from "@osr/base/assert";
import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { GIB, MIB, MINUTE_MS } from "@osr/base/units";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { registerFabric } from "@osr/configuration-server/fabric-registration";
import { openSite } from "@osr/configuration-server/site";
import { SiteModel } from "@osr/configuration-server/site-model";
import { VaultLink } from "@osr/configuration-server/vault-link";
import type { VaultCredentials } from "@osr/contracts/fabric-protocol";
import type {
  DiskReplicationFacts,
  MachineReplicationFacts,
} from "@osr/contracts/replication-facts";
import { AGENT_STATUS_MS, type MachineRegistration } from "@osr/contracts/site-protocol";

/**
 * Configuration servers with agents, as a process of its own: the state, the model and the link to the vault are those of the
 * role, only that what agents and a process server say is told to the model instead of arriving over TLS. Each agent reports
 * every 15 s, with another backlog and a new recovery point each time. Its argument names a file with a FleetOrder; it prints
 * a line when everything has been reported once.
 */
export type FleetOrder = {
  /** For the configuration servers' states. */
  readonly folder: string;
  readonly machinesPerFabric: number;
  readonly fabrics: readonly { readonly name: string; readonly credentials: VaultCredentials }[];
};

export type FleetFabric = {
  readonly name: string;
  readonly fabricId: Uuid;
  readonly machines: readonly { readonly machineId: Uuid; readonly name: string }[];
};

const VERSION = "0.1.0";
const DISKS = [
  { identity: "serial:boot", name: "vda", sizeBytes: 32 * GIB, isBoot: true },
  { identity: "serial:data", name: "vdb", sizeBytes: 256 * GIB, isBoot: false },
];
/** A slot is 15 s: the shortest interval of recovery points, and the most that a machine has to tell of. */
const SLOT_MS = 15_000;
const ports = {
  clock: systemClock,
  scheduler: systemScheduler,
  randomness: systemRandomness,
  log: silentLog,
};

async function startFabric(
  order: FleetOrder,
  { name, credentials }: FleetOrder["fabrics"][number],
): Promise<FleetFabric> {
  const secret = systemRandomness.bytes(32);
  const site = await openSite({ secret, stateFolder: join(order.folder, name) }, ports);
  const { state, authority, keys } = site;
  const identity = await registerFabric(
    {
      credentials,
      name,
      takeoverKey: keys.takeoverKey,
      siteAuthorityPem: authority.certificatePem,
      hostName: name,
      version: VERSION,
    },
    ports,
  );
  const model = new SiteModel({ ...ports, state, authority }, { silentMsMax: 15 * MINUTE_MS });
  const processServerId = uuidOfName("bench-process-server", name);
  tellGateway(model, processServerId, order.machinesPerFabric);
  setInterval(() => tellGateway(model, processServerId, order.machinesPerFabric), AGENT_STATUS_MS);
  const machines = Array.from({ length: order.machinesPerFabric }, (_, index) => ({
    machineId: uuidOfName("bench-machine", name, String(index)),
    name: `${name}-${String(index).padStart(4, "0")}`,
  }));
  state.transaction(() => {
    for (const [index, machine] of machines.entries()) {
      model.registerMachine(machine.machineId, registrationOf(machine.name, index));
      model.noteMachine(machine.machineId, factsOf(processServerId));
    }
  });
  for (const [index, { machineId }] of machines.entries())
    systemScheduler.after((index / machines.length) * AGENT_STATUS_MS, () => {
      setInterval(() => model.noteMachine(machineId, factsOf(processServerId)), AGENT_STATUS_MS);
    });
  const link = new VaultLink({
    ...ports,
    identity,
    model,
    state,
    hostName: name,
    version: VERSION,
  });
  void link.run(new AbortController().signal);
  return { name, fabricId: identity.fabricId, machines };
}

function registrationOf(hostName: string, index: number): MachineRegistration {
  return {
    agentVersion: VERSION,
    machine: {
      hostName,
      biosUuid: uuidOfName("bench-bios", hostName),
      operatingSystem: "Debian GNU/Linux 12 (bookworm)",
      kernel: "6.1.0-40-amd64",
      firmware: "uefi",
      cpuCount: 4,
      memoryBytes: 8 * GIB,
    },
    addresses: `10.${Math.floor(index / 250)}.${index % 250}.5`,
    disks: DISKS,
  };
}

let reported = 0;

function factsOf(processServerId: Uuid): MachineReplicationFacts {
  reported += 1;
  const now = systemClock.unixMs();
  const slot = Math.floor(now / SLOT_MS);
  const disks = DISKS.map(({ identity, name, sizeBytes }): DiskReplicationFacts => ({
    identity,
    name,
    sizeBytes,
    stage: "delta",
    progressPermille: 1000,
    dirtyBytes: (reported % 97) * MIB,
    pendingUploadBytes: (reported % 31) * MIB,
    readBytes: reported * MIB,
    sentBytes: reported * MIB,
    uploadedBytes: reported * MIB,
    secondsLeft: reported % 13,
  }));
  return {
    state: "protected",
    agentVersion: VERSION,
    processServerId,
    newestPoint: {
      slot,
      cutId: uuidOfName("bench-cut", String(reported)),
      class: "crash",
      unixMs: slot * SLOT_MS,
    },
    pointsMade: reported,
    pointsMissed: 0,
    frozenMs: 3,
    disks,
    health: [],
  };
}

function tellGateway(model: SiteModel, id: Uuid, protectedMachines: number): void {
  model.noteGateway(id, "process-server", {
    hostName: "process-server",
    version: VERSION,
    address: { host: "192.0.2.1", port: 9443 },
    certificateExpiresUnixMs: systemClock.unixMs() + 20 * 24 * 60 * MINUTE_MS,
    cacheFreePermille: 900,
    cpuPermille: 200,
    memoryPermille: 300,
    pendingUploadBytes: MIB,
    uploadBytesPerSecond: 10 * MIB,
    protectedMachines,
    health: [],
  });
}

const order = JSON.parse(
  readFileSync(must(process.argv[2], "the file with the order"), "utf8"),
) as FleetOrder;
const fabrics: FleetFabric[] = [];
for (const fabric of order.fabrics) fabrics.push(await startFabric(order, fabric));
process.stdout.write(`${JSON.stringify(fabrics)}\n`);
// Ends with whoever started it.
process.stdin.resume().on("end", () => process.exit(0));
