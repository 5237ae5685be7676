import { existsSync, statfsSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, dirname, join, resolve } from "node:path";

import { messageOf, systemErrorCode } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { GIB, formatBytes } from "@osr/base/units";
import { openDirectReader } from "@osr/block-device/direct-reader";
import { readDiskInventory } from "@osr/block-device/disk-inventory";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";
import { mountedTracefs } from "@osr/block-device/tracefs";
import { BpfTracker } from "@osr/block-device/bpf-tracker";
import { learnEventDevices } from "@osr/block-device/trust";
import { probeAccelerator } from "@osr/compute-qemu/kvm-probe";
import type { Output } from "@osr/cli/output";

/** One line of what a machine can do. `partly` works with less; `no` says what is lost. */
type Finding = {
  readonly check: string;
  readonly able: "yes" | "partly" | "no";
  readonly detail: string;
  readonly remedy: string;
};

const PORTS = [
  { port: 9443, role: "process server" },
  { port: 10_443, role: "storage account" },
];
const PROGRAMS = [
  {
    program: "qemu-system-x86_64",
    purpose: "running failed-over machines",
    package: "qemu-system-x86",
  },
  { program: "qemu-img", purpose: "overlays and qcow2 files", package: "qemu-utils" },
  { program: "ip", purpose: "virtual networks", package: "iproute2" },
  { program: "dnsmasq", purpose: "addresses in virtual networks", package: "dnsmasq-base" },
  { program: "fsfreeze", purpose: "the guard that thaws file systems", package: "util-linux" },
];
const FREE_BYTES_MIN = 10 * GIB;

/** `osr doctor`: what this machine can do and what not, with reasons. Changes nothing that stays. */
export async function doctor(options: { readonly directory: string }): Promise<Output> {
  const isRoot = process.getuid?.() === 0;
  return [
    finding("root", isRoot, "tracking, freezing and virtual networks", "run it as root"),
    tracefsFinding(),
    kernelProgramFinding(),
    ...(isRoot ? await diskFindings() : []),
    await acceleratorFinding(),
    ...PROGRAMS.map(programFinding),
    ...(await Promise.all(PORTS.map(portFinding))),
    spaceFinding(options.directory),
  ];
}

function finding(check: string, able: boolean, detail: string, remedy: string): Finding {
  return { check, able: able ? "yes" : "no", detail, remedy: able ? "" : remedy };
}

function tracefsFinding(): Finding {
  try {
    return finding("tracefs", true, `block_rq_complete in ${mountedTracefs()}`, "");
  } catch (error) {
    return finding(
      "tracefs",
      false,
      messageOf(error),
      "a kernel with block trace events, and root",
    );
  }
}

function kernelProgramFinding(): Finding {
  const check = "kernel programs";
  try {
    BpfTracker.open(`osr-doctor-${process.pid}`)[Symbol.dispose]();
    return finding(check, true, "changes are tracked at the lowest cost", "");
  } catch (error) {
    const remedy = "none is needed: changes are tracked by trace events, which costs more";
    return { check, able: "partly", detail: messageOf(error), remedy };
  }
}

async function diskFindings(): Promise<Finding[]> {
  const { disks, excluded } = await readDiskInventory({ selection: [], replicatedDataFolders: [] });
  const tracked: Finding[] = [];
  for (const disk of disks) tracked.push(await diskFinding(disk));
  const left = excluded.map(({ name, code, reason }) =>
    finding(
      `disk ${name}`,
      false,
      `${code}: ${reason}`,
      "none is needed unless it must be protected",
    ),
  );
  return [...tracked, ...left];
}

async function diskFinding(disk: ProtectableDisk): Promise<Finding> {
  const check = `disk ${disk.name}`;
  const size = formatBytes(disk.sizeBytes);
  try {
    await using reader = openDirectReader(disk);
    const trust = await learnEventDevices({
      disk,
      reader,
      name: `osr-doctor-${process.pid}`,
      randomness: systemRandomness,
    });
    if (!trust.trusted)
      return finding(
        check,
        false,
        `its changes cannot be tracked: ${trust.reason}`,
        "report the kind of disk",
      );
    return finding(check, true, `${size}, ${disk.identity}, changes can be tracked`, "");
  } catch (error) {
    return finding(check, false, messageOf(error), "see the message");
  }
}

async function acceleratorFinding(): Promise<Finding> {
  const { kind, reason } = await probeAccelerator({ qemu: "qemu-system-x86_64" });
  if (kind === "kvm") return finding("KVM", true, reason, "");
  const remedy =
    "use a host with hardware virtualisation; without it machines run about ten times slower";
  return { check: "KVM", able: "partly", detail: `machines run under TCG: ${reason}`, remedy };
}

function programFinding(wanted: (typeof PROGRAMS)[number]): Finding {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  const path = folders.map((folder) => join(folder, wanted.program)).find(existsSync);
  const detail = path ?? `not found; needed for ${wanted.purpose}`;
  return finding(wanted.program, path !== undefined, detail, `apt-get install ${wanted.package}`);
}

async function portFinding(wanted: (typeof PORTS)[number]): Promise<Finding> {
  const check = `port ${wanted.port}`;
  const refusal = await new Promise<string | undefined>((done) => {
    const server = createServer();
    server.once("error", (error) => done(systemErrorCode(error) ?? messageOf(error)));
    server.listen(wanted.port, "127.0.0.1", () => server.close(() => done(undefined)));
  });
  const detail = refusal === undefined ? `free for the ${wanted.role}` : refusal;
  return finding(
    check,
    refusal === undefined,
    detail,
    "stop what listens there, or give osr up another port",
  );
}

function spaceFinding(directory: string): Finding {
  let folder = resolve(directory);
  while (!existsSync(folder)) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const detail = `${formatBytes(free)} free in ${folder}`;
  return finding(
    "space",
    free >= FREE_BYTES_MIN,
    detail,
    `at least ${formatBytes(FREE_BYTES_MIN)}, and what is replicated`,
  );
}
