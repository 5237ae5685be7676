import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { accessSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { silentLog } from "@osr/base/log";
import { systemClock } from "@osr/base/platform/system-clock";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { ComputeProvider, MachineSpec } from "@osr/compute/compute-provider";
import type { ComputeFixtures, ContractSources } from "@osr/compute/compute-provider.contract";

import { bootDiskImage, dataDiskImage, guestReport } from "./boot-sector-guest.contract.ts";
import { pathExists } from "./path.ts";
import { waysOut } from "./network-isolation.ts";
import { ip } from "./network-namespace.ts";
import { createQemuProvider } from "./qemu-provider.ts";

/** The host of the tests: a folder for providers and sources, and a look at what they leave there. */
export type QemuHost = {
  readonly directory: string;
  readonly networkName: string;
  readonly open: () => ComputeProvider;
  readonly fixtures: ComputeFixtures;
};

/** Why no QEMU machine can be run here, or undefined. */
export function missingQemu(): string | undefined {
  for (const command of ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-nbd"])
    try {
      accessSync(command);
    } catch {
      return `${command} is not installed`;
    }
  return undefined;
}

/** Why no virtual network can be made here, or undefined. */
export function missingNetworks(): string | undefined {
  if (process.getuid?.() !== 0) return "not root: no network namespaces";
  try {
    accessSync("/dev/net/tun");
    accessSync("/usr/sbin/dnsmasq");
  } catch (error) {
    return String(error);
  }
  return undefined;
}

export async function openQemuHost(): Promise<QemuHost> {
  const root = await mkdtemp(join(tmpdir(), "osr-q-"));
  const directory = join(root, "c");
  const networkName = `t${randomBytes(3).toString("hex")}`;
  const open = (): ComputeProvider =>
    createQemuProvider({
      directory,
      log: silentLog,
      clock: systemClock,
      scheduler: systemScheduler,
      accelerator: "tcg",
    });
  const hostNetwork = async (): Promise<string> =>
    `${await ip(["-brief", "link"])}${await ip(["route"])}`;
  const fixtures: ComputeFixtures = {
    serveSources: () => serveSources(root),
    guestReport,
    leftovers: () => leftoversOf(directory, networkName),
    networks: missingNetworks() ?? { name: networkName, waysOut, hostNetwork },
    async dispose() {
      {
        await using provider = open();
        for (const { machineId } of await provider.list()) await provider.destroy(machineId);
        await provider.removeNetwork(networkName);
      }
      await rm(root, { recursive: true, force: true });
    },
  };
  return { directory, networkName, open, fixtures };
}

async function leftoversOf(directory: string, networkName: string): Promise<readonly string[]> {
  const left: string[] = [];
  if (await pathExists(directory))
    for (const path of await readdir(directory, { recursive: true }))
      // The empty folder of the networks' records stays with the provider's own.
      if (path !== "networks") left.push(join(directory, path));
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (commandLine.includes(directory)) left.push(`process ${pid}: ${commandLine.slice(0, 100)}`);
  }
  const namespaces = await readdir("/run/netns").catch(() => []);
  left.push(...namespaces.filter((name) => name === `osr-${networkName}`));
  return left;
}

async function serveSources(root: string): Promise<ContractSources> {
  const directory = await mkdtemp(join(root, "s-"));
  const images = [
    { name: "boot", bytes: bootDiskImage("the boot disk") },
    { name: "data", bytes: dataDiskImage("the data disk") },
  ];
  const markers = ["the boot disk", "the data disk"];
  for (const { name, bytes } of images) await writeFile(join(directory, name), bytes);
  let place = "a";
  const socketOf = (name: string): string => join(directory, `${name}.${place}`);
  const disksNow = (): MachineSpec["disks"] =>
    images.map(({ name, bytes }) => ({
      name: `${name} disk`,
      sizeBytes: bytes.byteLength,
      serial: `serial-of-the-${name}-disk-is-long`,
      isBoot: name === "boot",
      source: { unixSocketPath: socketOf(name), exportName: name },
    }));
  let servers: readonly ChildProcess[] = [];
  const resume = async (): Promise<void> => {
    servers = await Promise.all(
      images.map(({ name }) => serveImage(join(directory, name), name, socketOf(name))),
    );
  };
  const pause = async (): Promise<void> => {
    await Promise.all(servers.map(endProcess));
    servers = [];
  };
  await resume();
  return {
    disks: disksNow(),
    markers,
    pause,
    resume,
    async digest() {
      const hash = createHash("sha256");
      for (const { name } of images) hash.update(await readFile(join(directory, name)));
      return hash.digest("hex");
    },
    async moved() {
      await pause();
      place = "b";
      await resume();
      return disksNow();
    },
    async [Symbol.asyncDispose]() {
      await pause();
      await rm(directory, { recursive: true });
    },
  };
}

/** Writable on purpose, so that a machine that wrote to its source would change it. */
async function serveImage(
  image: string,
  exportName: string,
  socket: string,
): Promise<ChildProcess> {
  await rm(socket, { force: true });
  const args = ["-f", "raw", "-t", "-e", "16", "-x", exportName, "-k", socket, image];
  const server = spawn("qemu-nbd", args, { stdio: "ignore" });
  for (let tries = 0; tries < 500; tries++) {
    if (server.exitCode !== null) throw new Error(`qemu-nbd ended with ${server.exitCode}`);
    if (await accepts(socket)) return server;
    await wait(10);
  }
  throw new Error("qemu-nbd does not listen");
}

async function accepts(socketPath: string): Promise<boolean> {
  const socket = connect(socketPath);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
