import { open } from "node:fs/promises";
import { join } from "node:path";

import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MINUTE_MS } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";

import { makeExt4 } from "./ext4.ts";
import { fastInitramfs } from "./fast-initramfs.ts";
import { GUEST_ADDRESS, Machine, type MachineDisk, type MachineNetwork } from "./machine.ts";
import type { Narrator } from "./narrator.ts";
import { toolsDisk } from "./tools-disk.ts";

const BOOT_TIMEOUT_MS = 2 * MINUTE_MS;

export type FastMachineOptions = {
  /** An existing folder of this machine alone. */
  readonly directory: string;
  /** One ext4 disk each, without partitions, mounted at /data1, /data2 …; the serial numbers are data1, data2 … */
  readonly dataDisksBytes: readonly number[];
  /** Disk with the agent's program, mounted at /agent; see agentDisk. */
  readonly agentDiskPath?: string;
  /** The first 512 bytes of data1, which its own kernel does not need: what boots from a copy of it. */
  readonly bootSector?: Buffer;
  /** See MachineOptions. */
  readonly network?: MachineNetwork;
  readonly narrator: Narrator;
  readonly signal?: AbortSignal;
};

/** Starts a machine of the fast rig and waits until its shell is ready: about two seconds once the images are cached. */
export async function startFastMachine(options: FastMachineOptions): Promise<Machine> {
  const { narrator, signal, directory } = options;
  const kernel = await fastInitramfs(narrator, signal);
  const disks: MachineDisk[] = [
    { name: "tools", path: await toolsDisk(narrator, signal), format: "raw", readOnly: true },
  ];
  if (options.agentDiskPath !== undefined)
    disks.push({ name: "agent", path: options.agentDiskPath, format: "raw", readOnly: true });
  for (const [index, sizeBytes] of options.dataDisksBytes.entries()) {
    const name = `data${index + 1}`;
    const path = join(directory, `${name}.img`);
    await makeExt4(path, { sizeBytes, label: name, signal });
    disks.push({ name, path, format: "raw", readOnly: false });
    if (index === 0 && options.bootSector !== undefined) await writeStart(path, options.bootSector);
  }
  const machine = await Machine.start(
    {
      name: "fast",
      directory,
      cpuCount: 2,
      memoryMib: 512,
      biosUuid: randomUuid(systemRandomness),
      disks,
      kernel,
      forwardedPorts: [],
      network: options.network,
    },
    signal,
  );
  try {
    await machine.shell.ready(BOOT_TIMEOUT_MS, signal);
    // QEMU's own network hands out the address; a cable does not.
    if (options.network !== undefined)
      await machine.shell.must(`ifconfig eth0 ${GUEST_ADDRESS} netmask 255.255.255.0 up`);
    return machine;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

async function writeStart(path: string, bytes: Buffer): Promise<void> {
  await using file = await open(path, "r+");
  await file.write(bytes, 0, bytes.length, 0);
}

/** What the machine's kernel calls the disks of the rig, by their serial numbers. */
export async function kernelNamesOf(machine: Machine): Promise<ReadonlyMap<string, string>> {
  const text = await machine.shell.must(
    'for block in /sys/block/vd*; do echo "$(cat $block/serial) ${block##*/}"; done',
  );
  const lines = text.trim().split("\n");
  return new Map(
    lines.map((line) => line.split(" ")).map(([serial = "", name = ""]) => [serial, name] as const),
  );
}
