import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { OsrError, messageOf } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { NetworkSpec, ProbeOptions } from "@osr/compute/compute-provider";

import { runCommand } from "./command.ts";
import { COMPUTE_ERRORS } from "./compute-errors.ts";
import { dnsmasqConfig } from "./dnsmasq-config.ts";
import { NICS_MAX } from "./machine-limits.ts";
import { NAMESPACE_PROBE_FILE } from "./namespace-probe.ts";
import { waysOut } from "./network-isolation.ts";
import {
  BRIDGE,
  hasNamespace,
  ip,
  linksOf,
  namespaceOf,
  tapOf,
  withinNamespace,
} from "./network-namespace.ts";
import { checkNetworkName, checkNetworkSpec, networkSpecShape } from "./network-record.ts";
import { daemonOf, killProcess } from "./process-identity.ts";
import { readStateFile, writeStateFile } from "./state-file.ts";

const DNSMASQ_START_TIMEOUT_MS = 10 * SECOND_MS;
const DNSMASQ_END_TIMEOUT_MS = 5 * SECOND_MS;
const NODE_START_MS_MAX = 10 * SECOND_MS;

type NetworkPaths = Record<"record" | "config" | "pidFile" | "leaseFile", string>;

/**
 * Virtual networks: for each a network namespace with one bridge and one DHCP server, and a tap on the bridge for each
 * NIC of a running machine. No namespace has an uplink, whether isolated or not: a network that is not isolated reaches no
 * further than this host either. The record is written before anything else is made, and removed last.
 */
export class VirtualNetworks {
  readonly #directory: string;
  readonly #scheduler: Scheduler;

  constructor(directory: string, scheduler: Scheduler) {
    this.#directory = directory;
    this.#scheduler = scheduler;
  }

  async ensure(spec: NetworkSpec, signal?: AbortSignal): Promise<void> {
    checkNetworkSpec(spec);
    demandRoot();
    const paths = this.#pathsOf(spec.name);
    const known = await readStateFile(paths.record, networkSpecShape);
    const exists = await hasNamespace(spec.name);
    if (known === undefined && exists)
      throw new OsrError(
        COMPUTE_ERRORS.NETWORK_TAKEN,
        `network namespace ${namespaceOf(spec.name)} exists and is not ours`,
      );
    if (known !== undefined && identityOf(known) !== identityOf(spec))
      throw new OsrError(
        COMPUTE_ERRORS.NETWORK_DIFFERENT,
        `network ${spec.name} is ${identityOf(known)}, not ${identityOf(spec)}`,
      );
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeStateFile(paths.record, spec);
    if (!exists) await ip(["netns", "add", namespaceOf(spec.name)], signal);
    await this.#ensureBridge(spec, signal);
    if (spec.isolated) await demandIsolation(spec.name);
    await this.#ensureDnsmasq(spec, paths);
  }

  /** Removes everything of the network; it must not be in use. */
  async remove(name: string): Promise<void> {
    checkNetworkName(name);
    const paths = this.#pathsOf(name);
    if ((await readStateFile(paths.record, networkSpecShape)) === undefined) return;
    const dnsmasq = await daemonOf(paths.pidFile);
    if (dnsmasq !== undefined) await killProcess(dnsmasq, this.#scheduler, DNSMASQ_END_TIMEOUT_MS);
    if (await hasNamespace(name)) await ip(["netns", "delete", namespaceOf(name)]);
    for (const path of [paths.config, paths.pidFile, paths.leaseFile, `${paths.record}.new`])
      await rm(path, { force: true });
    await rm(paths.record);
  }

  /** Throws NETWORK_UNKNOWN where there is no such network. */
  async demand(name: string): Promise<void> {
    checkNetworkName(name);
    const isKnown =
      (await readStateFile(this.#pathsOf(name).record, networkSpecShape)) !== undefined;
    if (!isKnown || !(await hasNamespace(name)))
      throw new OsrError(COMPUTE_ERRORS.NETWORK_UNKNOWN, `there is no network ${name}`);
  }

  /** Names of the networks that this directory knows. */
  async list(): Promise<readonly string[]> {
    const files = await readdir(this.#directory).catch(() => []);
    return files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));
  }

  /** Makes the tap of a machine's NIC, on the bridge of its network, and gives its name. */
  async attach(name: string, machineId: Uuid, nicIndex: number): Promise<string> {
    await this.demand(name);
    const tap = tapOf(machineId, nicIndex);
    const within = ["-n", namespaceOf(name)];
    if (!(await linksOf(name)).includes(tap))
      await ip([...within, "tuntap", "add", tap, "mode", "tap"]);
    await ip([...within, "link", "set", tap, "master", BRIDGE, "up"]);
    return tap;
  }

  /** Removes all taps of a machine from a network; what is gone is gone. */
  async detach(name: string, machineId: Uuid): Promise<void> {
    if (!(await hasNamespace(name))) return;
    const links = await linksOf(name);
    for (let nicIndex = 0; nicIndex < NICS_MAX; nicIndex++) {
      const tap = tapOf(machineId, nicIndex);
      if (links.includes(tap)) await ip(["-n", namespaceOf(name), "link", "delete", tap]);
    }
  }

  /** See `ComputeProvider.probe`: a Node of its own connects from within the namespace. */
  async probe(
    name: string,
    address: string,
    port: number,
    request: Buffer,
    options: ProbeOptions,
  ): Promise<Buffer> {
    await this.demand(name);
    const numbers = [port, options.timeoutMs, options.replyBytesMax].map(String);
    const [command = "", ...args] = withinNamespace(name, [
      process.execPath,
      NAMESPACE_PROBE_FILE,
      address,
      ...numbers,
    ]);
    try {
      const timeoutMs = options.timeoutMs + NODE_START_MS_MAX;
      return await runCommand(command, args, { timeoutMs, input: request });
    } catch (cause) {
      throw new OsrError(
        COMPUTE_ERRORS.PROBE_FAILED,
        `no answer from ${address}:${port} in network ${name}: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  async #ensureBridge(spec: NetworkSpec, signal?: AbortSignal): Promise<void> {
    const within = ["-n", namespaceOf(spec.name)];
    const bridgeAddress = `${spec.gateway}/${spec.subnet.slice(spec.subnet.indexOf("/") + 1)}`;
    await ip([...within, "link", "set", "lo", "up"], signal);
    if (!(await linksOf(spec.name)).includes(BRIDGE))
      await ip([
        ...within,
        "link",
        "add",
        BRIDGE,
        "address",
        bridgeMacOf(spec.name),
        "type",
        "bridge",
      ]);
    await ip([...within, "address", "replace", bridgeAddress, "dev", BRIDGE], signal);
    await ip([...within, "link", "set", BRIDGE, "up"], signal);
  }

  /** dnsmasq reads its configuration once, as root, so that other reservations need another process. */
  async #ensureDnsmasq(spec: NetworkSpec, paths: NetworkPaths): Promise<void> {
    const config = dnsmasqConfig(spec, BRIDGE, paths);
    const running = await daemonOf(paths.pidFile);
    const current = await readFile(paths.config, "utf8").catch(() => undefined);
    if (running !== undefined && current === config) return;
    if (running !== undefined) await killProcess(running, this.#scheduler, DNSMASQ_END_TIMEOUT_MS);
    await writeFile(paths.config, config, { mode: 0o600 });
    const [command = "", ...args] = withinNamespace(spec.name, [
      "dnsmasq",
      `--conf-file=${paths.config}`,
      `--pid-file=${paths.pidFile}`,
    ]);
    // It goes into the background by itself, once it listens.
    await runCommand(command, args, { timeoutMs: DNSMASQ_START_TIMEOUT_MS });
  }

  #pathsOf(name: string): NetworkPaths {
    const path = (suffix: string): string => join(this.#directory, `${name}.${suffix}`);
    return {
      record: path("json"),
      config: path("dnsmasq.conf"),
      pidFile: path("dnsmasq.pid"),
      leaseFile: path("leases"),
    };
  }
}

/** A bridge without an address of its own takes that of one of its taps, and changes it when that tap goes. */
function bridgeMacOf(name: string): string {
  const hex = createHash("sha256").update(name).digest("hex").slice(0, 10);
  return `02:${hex.match(/../g)?.join(":") ?? ""}`;
}

function identityOf(spec: NetworkSpec): string {
  return `${spec.subnet} with gateway ${spec.gateway}, ${spec.isolated ? "isolated" : "not isolated"}`;
}

async function demandIsolation(name: string): Promise<void> {
  const ways = await waysOut(name);
  if (ways.length > 0)
    throw new OsrError(
      COMPUTE_ERRORS.NETWORK_NOT_ISOLATED,
      `network ${name} has ways out: ${ways.join(", ")}`,
    );
}

function demandRoot(): void {
  if (process.getuid?.() !== 0)
    throw new OsrError(COMPUTE_ERRORS.NETWORK_NEEDS_ROOT, "this process is not root");
}
