import { MIB } from "@osr/base/units";
import type { MachineSpec } from "@osr/compute/compute-provider";

import {
  deviceIdOf,
  localBlockNode,
  localNodeOf,
  overlayBlockNode,
  overlayNodeOf,
} from "./block-nodes.ts";
import { CONSOLE_RING_BYTES, CONSOLE_RING_ID } from "./console-log.ts";
import type { UefiFirmware } from "./firmware.ts";
import type { Accelerator } from "./kvm-probe.ts";
import type { MachinePaths } from "./machine-paths.ts";

/** The length of the field in virtio's configuration; a longer serial is cut. */
const SERIAL_CHARS_MAX = 20;

/** What x86-64-v2 asks for, which distributions of today are compiled for, and a source of randomness. */
const TCG_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";

const SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

export type QemuArgumentsInput = {
  readonly spec: MachineSpec;
  readonly paths: MachinePaths;
  readonly accelerator: Accelerator["kind"];
  /** Present where the machine starts by UEFI. */
  readonly firmware?: UefiFirmware | undefined;
  readonly localDisks: readonly string[];
  /** Name of the tap device of each NIC, in their order. */
  readonly taps: readonly string[];
};

/**
 * The arguments that make QEMU this machine. Devices keep their order and so their place on the PCI bus: NICs come before
 * disks, so that more disks don't rename a NIC in the guest. A disk that fails pauses the machine instead of failing in
 * the guest, and a guest that turns itself off leaves QEMU waiting, so that the last of its console can be read.
 */
export function qemuArguments(input: QemuArgumentsInput): readonly string[] {
  const { spec, paths } = input;
  const isKvm = input.accelerator === "kvm";
  const options: readonly Option[] = [
    ["-name", `guest=${spec.name}`],
    ["-nodefaults"],
    ["-no-user-config"],
    ["-sandbox", SANDBOX],
    ["-pidfile", paths.pidFile],
    ["-action", "shutdown=pause,panic=none"],
    ["-accel", isKvm ? "kvm" : "tcg,thread=multi"],
    ["-cpu", isKvm ? "host" : TCG_CPU],
    ["-smp", String(spec.cpuCount)],
    ["-m", `${spec.memoryBytes / MIB}M`],
    ["-rtc", "base=utc"],
    ["-uuid", spec.biosUuid],
    ["-smbios", `type=1,uuid=${spec.biosUuid}`],
    ...firmwareOptions(input),
    ["-display", "none"],
    ["-device", JSON.stringify({ driver: "VGA" })],
    ["-device", JSON.stringify({ driver: "pvpanic" })],
    ["-object", JSON.stringify(ENTROPY)],
    ["-device", JSON.stringify({ driver: "virtio-rng-pci", rng: ENTROPY.id })],
    ["-chardev", `ringbuf,id=${CONSOLE_RING_ID},size=${CONSOLE_RING_BYTES}`],
    ["-serial", `chardev:${CONSOLE_RING_ID}`],
    ...monitorOptions("control", paths.controlSocket),
    ...monitorOptions("events", paths.eventsSocket),
    ...spec.nics.flatMap((nic, index) => nicOptions(index, nic.mac, input.taps[index] ?? "")),
    ...spec.disks.flatMap((disk, index) => diskOptions(index, disk, input)),
  ];
  return options.flat().filter((argument) => argument !== undefined);
}

type Option = readonly [name: string, value?: string];

const ENTROPY = { "qom-type": "rng-random", id: "entropy", filename: "/dev/urandom" };

function firmwareOptions({ firmware, paths }: QemuArgumentsInput): readonly Option[] {
  if (firmware === undefined) return [["-machine", "q35"]];
  const flash = (name: string, filename: string, readOnly: boolean): string =>
    JSON.stringify({
      driver: "raw",
      "node-name": name,
      "read-only": readOnly,
      file: { driver: "file", filename },
    });
  return [
    ["-blockdev", flash("firmware-code", firmware.codeFile, true)],
    ["-blockdev", flash("firmware-variables", paths.firmwareVariables, false)],
    ["-machine", "q35,pflash0=firmware-code,pflash1=firmware-variables"],
  ];
}

function monitorOptions(id: string, socketPath: string): readonly Option[] {
  const path = socketPath.replaceAll(",", ",,");
  return [
    ["-chardev", `socket,id=${id},path=${path},server=on,wait=off`],
    ["-mon", `chardev=${id},mode=control`],
  ];
}

function nicOptions(index: number, mac: string, tap: string): readonly Option[] {
  const device = { driver: "virtio-net-pci", id: `nic${index}`, netdev: `net${index}`, mac };
  return [
    ["-netdev", `tap,id=net${index},ifname=${tap},script=no,downscript=no`],
    // Without an option ROM nothing is tried by network when the disk does not boot.
    ["-device", JSON.stringify({ ...device, romfile: "" })],
  ];
}

function diskOptions(
  index: number,
  disk: MachineSpec["disks"][number],
  { localDisks, paths }: QemuArgumentsInput,
): readonly Option[] {
  const isLocal = localDisks.includes(disk.name);
  const node = isLocal ? localBlockNode(index, paths) : overlayBlockNode(index, disk, paths);
  const device = {
    driver: "virtio-blk-pci",
    id: deviceIdOf(index),
    drive: isLocal ? localNodeOf(index) : overlayNodeOf(index),
    rerror: "stop",
    werror: "stop",
    ...(disk.serial === undefined ? {} : { serial: disk.serial.slice(0, SERIAL_CHARS_MAX) }),
    ...(disk.isBoot ? { bootindex: 0 } : {}),
  };
  return [
    ["-blockdev", JSON.stringify(node)],
    ["-device", JSON.stringify(device)],
  ];
}
