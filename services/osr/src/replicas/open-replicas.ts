import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { Log } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { type Uuid, isUuid } from "@osr/base/uuid";
import { createQemuProvider } from "@osr/compute-qemu/qemu-provider";
import { keysOfVault } from "@osr/failover/failover-keys";
import type { FailoverPorts } from "@osr/failover/failover-ports";
import { GranuleCache } from "@osr/nbd/granule-cache";
import type { ObjectStore } from "@osr/repository/object-store";
import { LeaseGate } from "@osr/vault/replicas/lease-gate";

import { writeDurably } from "../site/durable-file.ts";
import { measureCapacity } from "./host-capacity.ts";
import { LocalReplicaHost } from "./local-replica-host.ts";

const VAULT_FILE = "vault-id";
const LEASE_FILE = "lease";
/** Of a vault's id in the name of its folder: unix sockets leave little room for paths. */
const NAME_CHARS = 8;

/** The replicas of this machine: a folder for each vault, whose machines are taken over at once. */
export async function openReplicas(
  options: {
    readonly directory: string;
    readonly store: ObjectStore;
    readonly vaultKey: Buffer;
    readonly log: Log;
  },
  signal: AbortSignal,
): Promise<LocalReplicaHost> {
  const { directory, store, vaultKey, log } = options;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const cache = new GranuleCache();
  const known = new Map<Uuid, FailoverPorts>();
  const common = { log, clock: systemClock, scheduler: systemScheduler };
  const portsOf = (vaultId: Uuid): FailoverPorts => {
    const kept = known.get(vaultId);
    if (kept !== undefined) return kept;
    const runDirectory = join(directory, vaultId.slice(0, NAME_CHARS));
    const machines = join(runDirectory, "machines");
    mkdirSync(machines, { recursive: true, mode: 0o700 });
    writeFileSync(join(runDirectory, VAULT_FILE), vaultId, { mode: 0o600 });
    const ports: FailoverPorts = {
      ...common,
      store,
      vaultId,
      keys: keysOfVault(store, { vaultId, vaultKey }),
      compute: createQemuProvider({ directory: machines, ...common }),
      runDirectory,
      cache,
      randomness: systemRandomness,
    };
    known.set(vaultId, ports);
    return ports;
  };
  return await LocalReplicaHost.open(
    {
      portsOf,
      gate: keptGate(directory),
      capacity: () => measureCapacity(directory),
      scheduler: systemScheduler,
    },
    vaultsIn(directory),
    signal,
  );
}

/** Older vaults stay locked out when the host is restarted. */
function keptGate(directory: string): LeaseGate {
  const file = join(directory, LEASE_FILE);
  const highest = existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
  return new LeaseGate(highest, (token) => writeDurably(file, String(token), 0o600));
}

function vaultsIn(directory: string): readonly Uuid[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => readFileSync(join(directory, entry.name, VAULT_FILE), "utf8").trim())
    .filter(isUuid);
}
