import assert from "node:assert/strict";
import { test } from "node:test";

import { uuid } from "@osr/base/uuid";
import { GIB, MIB } from "@osr/base/units";
import type { MachineSpec } from "@osr/compute/compute-provider";

import { machinePaths } from "./machine-paths.ts";
import { qemuArguments } from "./qemu-arguments.ts";

const MACHINE_ID = uuid("0f8fad5b-d9cb-469f-a165-70867728950e");
const SPEC: MachineSpec = {
  machineId: MACHINE_ID,
  name: "web-1",
  biosUuid: uuid("7c9e6679-7425-40de-944b-e07fc1f90ae7"),
  firmware: "bios",
  cpuCount: 2,
  memoryBytes: 768 * MIB,
  disks: [
    {
      name: "data",
      sizeBytes: GIB,
      isBoot: false,
      source: { unixSocketPath: "/run/nbd, too.sock", exportName: "data" },
    },
    {
      name: "root",
      sizeBytes: 2 * GIB,
      serial: "a-serial-of-more-than-twenty-characters",
      isBoot: true,
      source: { unixSocketPath: "/run/nbd.sock", exportName: "root" },
    },
  ],
  nics: [{ network: "test", mac: "52:54:00:00:00:01" }],
};
const INPUT = {
  spec: SPEC,
  paths: machinePaths("/srv/a,b", MACHINE_ID),
  accelerator: "tcg",
  localDisks: [],
  taps: ["t0123456789ab"],
} as const;

test("a BIOS machine, two disks, one NIC", () => {
  const home = "/srv/a,b/0f8fad5b-d9cb-469f-a165-70867728950e";
  const escaped = "/srv/a,,b/0f8fad5b-d9cb-469f-a165-70867728950e";
  const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
  const lines = [
    "-name guest=web-1 -nodefaults -no-user-config",
    `-sandbox ${sandbox}`,
    `-pidfile ${home}/qemu.pid -action shutdown=pause,panic=none`,
    "-accel tcg,thread=multi -cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand",
    "-smp 2 -m 768M -rtc base=utc",
    "-uuid 7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "-smbios type=1,uuid=7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "-machine q35 -display none",
    '-device {"driver":"VGA"} -device {"driver":"pvpanic"}',
    '-object {"qom-type":"rng-random","id":"entropy","filename":"/dev/urandom"}',
    '-device {"driver":"virtio-rng-pci","rng":"entropy"}',
    "-chardev ringbuf,id=console,size=1048576 -serial chardev:console",
    `-chardev socket,id=control,path=${escaped}/control.sock,server=on,wait=off`,
    "-mon chardev=control,mode=control",
    `-chardev socket,id=events,path=${escaped}/events.sock,server=on,wait=off`,
    "-mon chardev=events,mode=control",
    "-netdev tap,id=net0,ifname=t0123456789ab,script=no,downscript=no",
    '-device {"driver":"virtio-net-pci","id":"nic0","netdev":"net0","mac":"52:54:00:00:00:01","romfile":""}',
  ];
  const args = qemuArguments(INPUT);
  const expected = lines.flatMap((line) => line.split(" "));
  assert.deepEqual(args.slice(0, expected.length), expected);
  const rest = args.slice(expected.length);
  assert.deepEqual(
    rest.filter((_, index) => index % 2 === 0),
    ["-blockdev", "-device", "-blockdev", "-device"],
  );
  assert.deepEqual(rest.filter((_, index) => index % 2 === 1).map(parsed), [
    {
      driver: "qcow2",
      "node-name": "disk0-overlay",
      discard: "unmap",
      file: { driver: "file", filename: `${home}/disk0.overlay.qcow2` },
      backing: {
        driver: "nbd",
        "node-name": "disk0-source",
        "read-only": true,
        server: { type: "unix", path: "/run/nbd, too.sock" },
        export: "data",
        "reconnect-delay": 60,
        "open-timeout": 10,
      },
    },
    {
      driver: "virtio-blk-pci",
      id: "disk0",
      drive: "disk0-overlay",
      rerror: "stop",
      werror: "stop",
    },
    {
      driver: "qcow2",
      "node-name": "disk1-overlay",
      discard: "unmap",
      file: { driver: "file", filename: `${home}/disk1.overlay.qcow2` },
      backing: {
        driver: "nbd",
        "node-name": "disk1-source",
        "read-only": true,
        server: { type: "unix", path: "/run/nbd.sock" },
        export: "root",
        "reconnect-delay": 60,
        "open-timeout": 10,
      },
    },
    {
      driver: "virtio-blk-pci",
      id: "disk1",
      drive: "disk1-overlay",
      rerror: "stop",
      werror: "stop",
      serial: "a-serial-of-more-tha",
      bootindex: 0,
    },
  ]);
});

test("a local disk has no source; KVM has the host's processor", () => {
  const args = qemuArguments({ ...INPUT, accelerator: "kvm", localDisks: ["root"] });
  assert.equal(args[args.indexOf("-accel") + 1], "kvm");
  assert.equal(args[args.indexOf("-cpu") + 1], "host");
  assert.deepEqual(parsed(args.at(-3) ?? ""), {
    driver: "qcow2",
    "node-name": "disk1-local",
    discard: "unmap",
    "detect-zeroes": "unmap",
    backing: null,
    file: {
      driver: "file",
      filename: "/srv/a,b/0f8fad5b-d9cb-469f-a165-70867728950e/disk1.local.qcow2",
    },
  });
  assert.equal((parsed(args.at(-1) ?? "") as { drive: string }).drive, "disk1-local");
});

test("a UEFI machine has shared code and variables of its own", () => {
  const firmware = { codeFile: "/fw/CODE.fd", variablesFile: "/fw/VARS.fd" };
  const args = qemuArguments({ ...INPUT, firmware });
  const machine = args[args.indexOf("-machine") + 1];
  assert.equal(machine, "q35,pflash0=firmware-code,pflash1=firmware-variables");
  const flashes = args.filter((argument) => argument.includes('"firmware-')).map(parsed);
  assert.deepEqual(flashes, [
    {
      driver: "raw",
      "node-name": "firmware-code",
      "read-only": true,
      file: { driver: "file", filename: "/fw/CODE.fd" },
    },
    {
      driver: "raw",
      "node-name": "firmware-variables",
      "read-only": false,
      file: { driver: "file", filename: INPUT.paths.firmwareVariables },
    },
  ]);
});

function parsed(json: string): unknown {
  return JSON.parse(json);
}
