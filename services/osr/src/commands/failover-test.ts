import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

import { progressLine } from "@osr/cli/progress-line";
import type { FailoverTestOptions } from "@osr/cli/program";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { MIB, MINUTE_MS, formatDuration } from "@osr/base/units";
import type { NetworkSpec } from "@osr/compute/compute-provider";
import { createQemuProvider } from "@osr/compute-qemu/qemu-provider";
import { type FailoverProgress, type FailoverRequest, startFailover } from "@osr/failover/failover";
import { keysOfVault } from "@osr/failover/failover-keys";
import type { FailoverPorts } from "@osr/failover/failover-ports";
import { GranuleCache } from "@osr/nbd/granule-cache";
import type { RecoveryPoint } from "@osr/repository/recovery-point";

import { aborted } from "@osr/base/platform/interruption";
import { progressWriter } from "../progress-writer.ts";
import { choosePoint } from "../repository/choose-point.ts";
import { type Repository, openRepository, vaultKeyOf } from "../repository/open-repository.ts";
import { roleLog } from "../role-log.ts";

const ANSWER_MS_MAX = 10 * MINUTE_MS;
const MAC_DEFAULT = "52:54:00:0a:00:01";

/** `osr failover test`: boots the machine in an isolated network; the signal ends the test and cleans up. */
export async function failoverTest(
  options: FailoverTestOptions,
  signal: AbortSignal,
): Promise<void> {
  using repository = await openRepository(options);
  const point = await choosePoint(repository, options);
  const ports = portsOf(repository, options);
  await using machine = await startFailover(requestOf(options, point, signal), ports);
  try {
    say(`running: ${machine.name}, from recovery point ${point.slot}`);
    say(`network: ip netns exec osr-${options.network} …`);
    if (options.address !== undefined) say(`address: ${options.address}`);
    say("ready; Ctrl-C ends the test and removes the machine and its network");
    await aborted(signal);
  } finally {
    await machine.cleanup();
    say("cleaned up");
  }
}

function portsOf(repository: Repository, options: FailoverTestOptions): FailoverPorts {
  const runDirectory = resolve(options.runDirectory);
  mkdirSync(join(runDirectory, "machines"), { recursive: true, mode: 0o700 });
  const log = roleLog("failover");
  const common = { log, clock: systemClock, scheduler: systemScheduler };
  const { store, vaultId } = repository;
  return {
    ...common,
    store,
    vaultId,
    keys: keysOfVault(store, { vaultId, vaultKey: vaultKeyOf(repository) }),
    compute: createQemuProvider({ directory: join(runDirectory, "machines"), ...common }),
    runDirectory,
    cache: new GranuleCache(),
    randomness: systemRandomness,
  };
}

function requestOf(
  options: FailoverTestOptions,
  point: RecoveryPoint,
  signal: AbortSignal,
): FailoverRequest {
  const mac = options.mac ?? MAC_DEFAULT;
  const { network: name, subnet, gateway, address, waitPort, memoryMib } = options;
  const network: NetworkSpec = {
    name,
    subnet,
    gateway,
    isolated: true,
    reservations: address === undefined ? [] : [{ mac, address, hostName: "replica" }],
  };
  const waits = waitPort !== undefined && address !== undefined;
  return {
    machineId: point.groupId,
    groupId: point.groupId,
    point: { kind: "custom", slot: point.slot },
    replica: {
      nics: [{ network: name, mac }],
      ...(memoryMib === undefined ? {} : { memoryBytes: memoryMib * MIB }),
    },
    network,
    ...(waits ? { answer: portProbe(name, address, waitPort) } : {}),
    movesToLocalStorage: options.move,
    onProgress: narration(),
    signal,
  };
}

/** Whatever the port says, it answers. */
function portProbe(network: string, address: string, port: number): FailoverRequest["answer"] & {} {
  return {
    network,
    address,
    port,
    request: Buffer.from("\r\n\r\n", "latin1"),
    accepts: () => true,
    timeoutMs: ANSWER_MS_MAX,
  };
}

function narration(): (progress: FailoverProgress) => void {
  const progress = progressWriter();
  const line = progressLine("moving to local storage", systemClock);
  return ({ step, state, elapsedMs, move }) => {
    if (move !== undefined) progress.show(line.text(move.doneBytes, move.totalBytes));
    else if (state !== "started")
      say(`${formatDuration(elapsedMs).padStart(9)}  ${step}: ${state}`);
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
