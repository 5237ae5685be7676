import type { ChildProcess } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

import { OsrError, messageOf } from "@osr/base/errors";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import { SECOND_MS } from "@osr/base/units";
import { ensureFirmwareVariables, findUefiFirmware } from "@osr/compute-qemu/firmware";
import { probeAccelerator } from "@osr/compute-qemu/kvm-probe";
import { withinNamespace } from "@osr/compute-qemu/network-namespace";
import { type QmpClient, connectQmp } from "@osr/compute-qemu/qmp-client";

import { exitOf, spawnTied } from "./commands.ts";
import { GuestShell } from "./guest-shell.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

const QEMU = "qemu-system-x86_64";
const SOCKET_TIMEOUT_MS = 15 * SECOND_MS;
const POLL_MS = 20;

/** Where the machine sees the host's loopback, and its own address. */
export const HOST_ADDRESS = "10.0.2.2";
export const GUEST_ADDRESS = "10.0.2.15";
export const GUEST_MAC = "52:54:00:12:34:56";

export type MachineDisk = {
  /** Serial number that the machine sees, at most 20 characters; also the name of QEMU's node. */
  readonly name: string;
  readonly path: string;
  readonly format: "raw" | "qcow2";
  readonly readOnly: boolean;
};

export type MachineOptions = {
  readonly name: string;
  /** An existing folder, of this machine alone; sockets and logs go there. */
  readonly directory: string;
  readonly cpuCount: number;
  readonly memoryMib: number;
  readonly biosUuid: string;
  readonly disks: readonly MachineDisk[];
  /** Boots this; without it, the first disk's boot loader. */
  readonly kernel?: { readonly imagePath: string; readonly initramfsPath: string };
  /** Of what looks for that boot loader. Default: bios. */
  readonly firmware?: "bios" | "uefi";
  /** TCP ports of the machine that are reachable on the host's loopback; none with a network of its own. */
  readonly forwardedPorts: readonly number[];
  /** The cable that it is plugged into. Without one, QEMU passes its connections to HOST_ADDRESS on to the host's loopback. */
  readonly network?: MachineNetwork | undefined;
};

/** A tap in the namespace of a network. */
export type MachineNetwork = { readonly network: string; readonly tap: string };

/** A running machine of the rig; disposing it cuts its power. */
export class Machine implements AsyncDisposable {
  readonly qmp: QmpClient;
  readonly shell: GuestShell;
  readonly disks: readonly MachineDisk[];
  readonly directory: string;
  readonly #child: ChildProcess;

  private constructor(
    options: MachineOptions,
    child: ChildProcess,
    qmp: QmpClient,
    shell: GuestShell,
  ) {
    this.disks = options.disks;
    this.directory = options.directory;
    this.#child = child;
    this.qmp = qmp;
    this.shell = shell;
  }

  /** Powers a machine on. Its shell is connected, and not yet ready: see GuestShell.ready. */
  static async start(options: MachineOptions, signal?: AbortSignal): Promise<Machine> {
    await using log = await open(join(options.directory, "qemu.log"), "a");
    const platform = [...(await acceleratorArguments()), ...(await firmwareArguments(options))];
    const command = [QEMU, ...qemuArguments(options, platform)];
    const [program = QEMU, ...words] =
      options.network === undefined ? command : withinNamespace(options.network.network, command);
    const child = spawnTied(program, words, {
      stdio: ["ignore", log.fd, log.fd],
      cwd: options.directory,
    });
    child.on("error", () => undefined);
    try {
      // Paths of unix sockets are short, so they are given relative to the folder, and absolute only here.
      const at = (name: string): string => join(options.directory, name);
      const readConsole = (): Promise<string> => readFile(at("console.log"), "latin1");
      const shell = await whenThere(child, options, signal, () =>
        GuestShell.connect(at("shell"), readConsole),
      );
      const qmp = await whenThere(child, options, signal, () =>
        connectQmp({
          socketPath: at("qmp"),
          scheduler: systemScheduler,
          timeoutMs: SOCKET_TIMEOUT_MS,
          signal,
        }),
      );
      await qmp.execute("cont");
      return new Machine(options, child, qmp, shell);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What the machine printed on its console. */
  async console(): Promise<string> {
    return readFile(join(this.directory, "console.log"), "latin1");
  }

  /** The port on the host's loopback that leads to `guestPort` of the machine. */
  async forwardedPort(guestPort: number): Promise<number> {
    const text = (await this.qmp.execute("human-monitor-command", {
      "command-line": "info usernet",
    })) as string;
    const line = new RegExp(
      `TCP\\[HOST_FORWARD\\]\\s+\\d+\\s+\\S+\\s+(\\d+)\\s+\\S+\\s+${guestPort}\\s`,
    );
    const [, port] = line.exec(text) ?? [];
    if (port === undefined)
      throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, `port ${guestPort} is not forwarded`);
    return Number(port);
  }

  /** Presses reset: what the machine had not yet written is lost, as in a power cut. */
  async reset(): Promise<void> {
    await this.qmp.execute("system_reset");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.shell[Symbol.dispose]();
    this.qmp[Symbol.dispose]();
    this.#child.kill("SIGKILL");
    await exitOf(this.#child);
  }
}

/** KVM where it is proved to work. Emulated, `max` has instructions for AES and SHA, which halve the time of TLS. */
async function acceleratorArguments(): Promise<readonly string[]> {
  const { kind } = await probeAccelerator({ qemu: QEMU });
  return kind === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,thread=multi", "-cpu", "max"];
}

async function firmwareArguments(options: MachineOptions): Promise<readonly string[]> {
  if (options.firmware !== "uefi") return [];
  const firmware = await findUefiFirmware();
  const variables = join(options.directory, "firmware-variables.fd");
  await ensureFirmwareVariables(firmware, variables);
  return [
    ["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${firmware.codeFile}`],
    ["-drive", `if=pflash,unit=1,format=raw,file=${variables}`],
  ].flat();
}

function networkBackend({ network, forwardedPorts }: MachineOptions): string {
  if (network !== undefined) return `tap,id=net,ifname=${network.tap},script=no,downscript=no`;
  const forwards = forwardedPorts.map((port) => `,hostfwd=tcp:127.0.0.1:0-:${port}`);
  return `user,id=net,ipv6=off${forwards.join("")}`;
}

function qemuArguments(options: MachineOptions, platform: readonly string[]): string[] {
  const serial = (name: string): string[] => ["-serial", `unix:${name},server=on,wait=off`];
  return [
    ["-name", options.name, "-nodefaults", "-display", "none", "-S"],
    ["-machine", "q35", ...platform, "-uuid", options.biosUuid],
    ["-smp", String(options.cpuCount), "-m", String(options.memoryMib)],
    ["-serial", "file:console.log", ...serial("shell"), ...serial("hook"), ...serial("ledger")],
    ["-qmp", "unix:qmp,server=on,wait=off"],
    options.disks.flatMap(diskArguments),
    ["-netdev", networkBackend(options)],
    ["-device", `virtio-net-pci,netdev=net,mac=${GUEST_MAC},romfile=`],
    options.kernel === undefined
      ? []
      : [
          ["-kernel", options.kernel.imagePath, "-initrd", options.kernel.initramfsPath],
          ["-append", "console=ttyS0,115200 quiet panic=-1"],
        ].flat(),
  ].flat();
}

function diskArguments(disk: MachineDisk, index: number): string[] {
  // The host's own flushes would only slow the rig down: no scenario cuts the power of the host.
  const file = { driver: "file", filename: disk.path, cache: { "no-flush": true } };
  const node = {
    driver: disk.format,
    "node-name": disk.name,
    "read-only": disk.readOnly,
    ...(disk.format === "raw" && !disk.readOnly ? { discard: "unmap" } : {}),
    file,
  };
  const boot = index === 0 ? ",bootindex=1" : "";
  return [
    ["-blockdev", JSON.stringify(node)],
    ["-device", `virtio-blk-pci,drive=${disk.name},serial=${disk.name}${boot}`],
  ].flat();
}

/** Connects as soon as QEMU has made the socket. */
async function whenThere<T>(
  child: ChildProcess,
  options: MachineOptions,
  signal: AbortSignal | undefined,
  connect: () => Promise<T>,
): Promise<T> {
  const end = performance.now() + SOCKET_TIMEOUT_MS;
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await connect();
    } catch (error) {
      const ended = child.exitCode !== null || child.signalCode !== null;
      if (ended || performance.now() > end) {
        const log = await readFile(join(options.directory, "qemu.log"), "utf8");
        throw new OsrError(
          RIG_ERRORS.RIG_MACHINE_ENDED,
          `QEMU did not start: ${messageOf(error)}\n${log.slice(-2000)}`,
        );
      }
    }
    await wait(POLL_MS);
  }
}
