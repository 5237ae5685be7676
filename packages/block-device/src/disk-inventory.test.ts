import assert from "node:assert/strict";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { holdDataFolder } from "@osr/base/platform/data-folder";
import { GIB, TIB } from "@osr/base/units";

import { devicesOfDataFolders } from "./data-folders.ts";
import { disksWithReplicatedData, readDiskInventory } from "./disk-inventory.ts";
import { IDENTITY_BYTES } from "./on-disk-identity.ts";
import type { DiskInventory } from "./protected-disk.ts";
import { KernelTree } from "./testing/kernel-tree.ts";
import { systemRoots } from "./system-roots.ts";
import { LoopDisks, loopSkipReason } from "./testing/loop-disk.ts";

const SECTORS = GIB / 512;

function inventory(
  tree: KernelTree,
  selection: readonly string[] = [],
  replicatedDataFolders: readonly string[] = [],
): Promise<DiskInventory> {
  return readDiskInventory({ selection, replicatedDataFolders, roots: tree.roots });
}

function codes({ excluded }: DiskInventory): Record<string, string> {
  return Object.fromEntries(excluded.map(({ name, code }) => [name, code]));
}

function names({ disks }: DiskInventory): readonly string[] {
  return disks.map(({ name }) => name);
}

function mbr(signature: number, code = 0): Buffer {
  const start = Buffer.alloc(IDENTITY_BYTES);
  start[0] = code;
  start.writeUInt32LE(signature, 440);
  start.writeUInt16BE(0x55aa, 510);
  return start;
}

function ext4(lastByte: number): Buffer {
  const start = Buffer.alloc(IDENTITY_BYTES);
  start.writeUInt16LE(0xef53, 1080);
  start[1143] = lastByte;
  return start;
}

test("virtio: the serial number, else the partition table, else the file system", async (t) => {
  const tree = new KernelTree(t)
    .disk("vda", {
      device: "254:0",
      sectors: SECTORS,
      files: { serial: "disk-one\n", "queue/logical_block_size": "4096\n" },
      content: mbr(1),
    })
    .disk("vdb", {
      device: "254:16",
      sectors: SECTORS + 1,
      files: { serial: "\n" },
      content: mbr(0xcafe),
    })
    .disk("vdc", { device: "254:32", sectors: SECTORS, content: ext4(7) })
    .disk("vdd", { device: "254:48", sectors: SECTORS, content: Buffer.alloc(512) })
    .process("self", 1, "");
  const found = await inventory(tree);
  assert.deepEqual(
    found.disks.map((disk) => [disk.name, disk.identity, disk.sizeBytes, disk.logicalSectorBytes]),
    [
      ["vda", "serial:disk-one", GIB, 4096],
      ["vdb", "ptuuid:0000cafe", GIB + 512, 512],
      ["vdc", "fsuuid:00000000-0000-0000-0000-000000000007", GIB, 512],
    ],
  );
  assert.deepEqual(codes(found), { vdd: "NO_IDENTITY" });
  const [first] = found.disks;
  assert.deepEqual([first?.path, first?.major, first?.minor], ["/dev/vda", 254, 0]);
});

test("SCSI: the world-wide name, else the serial number page; CD drives are left out", async (t) => {
  const page = Buffer.concat([Buffer.from([0, 0x80, 0, 8]), Buffer.from("  AB12  ")]);
  const tree = new KernelTree(t)
    .disk("sda", {
      device: "8:0",
      sectors: SECTORS,
      files: { "device/wwid": "t10.ATA     QEMU HARDDISK   QM00001 \n", "device/vpd_pg80": page },
    })
    .disk("sdb", { device: "8:16", sectors: SECTORS, files: { "device/vpd_pg80": page } })
    .disk("sdc", { device: "8:32", sectors: SECTORS, files: { removable: "1\n" } })
    .disk("sdd", { device: "8:48", sectors: SECTORS, files: { "device/type": "5\n" } })
    .disk("sr0", { device: "11:0", sectors: 2097151 })
    .process("self", 1, "");
  const found = await inventory(tree);
  assert.deepEqual(
    found.disks.map(({ identity }) => identity),
    ["wwid:t10.ATA_QEMU_HARDDISK_QM00001", "serial:AB12"],
  );
  assert.deepEqual(codes(found), { sdc: "REMOVABLE", sdd: "REMOVABLE", sr0: "REMOVABLE" });
});

test("NVMe: the namespace, not the hidden paths to it", async (t) => {
  const tree = new KernelTree(t)
    .disk("nvme0n1", {
      device: "259:0",
      sectors: SECTORS,
      files: { wwid: "eui.0025385b71b00001\n", hidden: "0\n" },
      partitions: { nvme0n1p1: { device: "259:1", start: 2048, sectors: 4096 } },
    })
    .process("self", 1, "");
  for (const hidden of ["nvme0c0n1", "nvme0c1n1"])
    tree
      .file(`sys/block/${hidden}/hidden`, "1\n")
      .file(`sys/block/${hidden}/size`, `${SECTORS}\n`)
      .file(`sys/block/${hidden}/wwid`, "eui.0025385b71b00001\n");
  const found = await inventory(tree);
  assert.deepEqual(
    found.disks.map(({ name, identity }) => [name, identity]),
    [["nvme0n1", "wwid:eui.0025385b71b00001"]],
  );
  assert.deepEqual(codes(found), { nvme0c0n1: "NOT_A_DISK", nvme0c1n1: "NOT_A_DISK" });
});

test("what lies over other disks, in memory, or cannot be written is left out", async (t) => {
  const wwid = (name: string): Record<string, string> => ({ wwid: `naa.${name}\n` });
  const tree = new KernelTree(t)
    .disk("sda", { device: "8:0", sectors: SECTORS, files: wwid("sda") })
    .disk("sdb", { device: "8:16", sectors: SECTORS, files: { ...wwid("sdb"), ro: "1\n" } })
    .disk("sdc", { device: "8:32", sectors: 1000, files: wwid("sdc") })
    .disk("sdd", { device: "8:48", sectors: 17 * (TIB / 512), files: wwid("sdd") })
    .disk("sde", { device: "8:64", sectors: 0, files: wwid("sde") })
    .disk("dm-0", { device: "253:0", sectors: SECTORS, slaves: ["sda"] })
    .disk("md127", { device: "9:127", sectors: SECTORS })
    .disk("bcache0", { device: "252:0", sectors: SECTORS, slaves: ["sda"] })
    .disk("zram0", { device: "251:0", sectors: SECTORS })
    .disk("ram0", { device: "1:0", sectors: SECTORS })
    .disk("loop0", { device: "7:0", sectors: 0 })
    .disk("nbd0", { device: "43:0", sectors: 0 })
    .process("self", 1, "");
  const found = await inventory(tree);
  assert.deepEqual(names(found), ["sda"]);
  assert.deepEqual(codes(found), {
    sdb: "READ_ONLY",
    sdc: "TOO_SMALL",
    sdd: "TOO_LARGE",
    sde: "NOT_A_DISK",
    "dm-0": "LAYERED",
    md127: "LAYERED",
    bcache0: "LAYERED",
    zram0: "MEMORY_DISK",
    ram0: "MEMORY_DISK",
  });
  assert.match(found.excluded.find(({ name }) => name === "dm-0")?.reason ?? "", /\bsda\b/);
});

test("two disks of one identity are both left out, and name each other", async (t) => {
  const files = { serial: "twin\n" };
  const tree = new KernelTree(t)
    .disk("vda", { device: "254:0", sectors: SECTORS, files })
    .disk("vdb", { device: "254:16", sectors: SECTORS, files })
    .disk("vdc", { device: "254:32", sectors: SECTORS, files: { serial: "other\n" } })
    .process("self", 1, "");
  const found = await inventory(tree);
  assert.deepEqual(names(found), ["vdc"]);
  assert.deepEqual(codes(found), { vda: "NO_IDENTITY", vdb: "NO_IDENTITY" });
  assert.match(found.excluded[0]?.reason ?? "", /serial:twin.*vdb/);
});

test("a selection by name, path or identity; loops only so", async (t) => {
  const tree = new KernelTree(t)
    .disk("vda", { device: "254:0", sectors: SECTORS, files: { serial: "a\n" } })
    .disk("vdb", { device: "254:16", sectors: SECTORS, files: { serial: "b\n" } })
    .disk("vdc", { device: "254:32", sectors: SECTORS, files: { serial: "c\n" } })
    .disk("loop3", {
      device: "7:3",
      sectors: SECTORS,
      files: { "loop/backing_file": "/x\n" },
      content: ext4(3),
    })
    .process("self", 1, "");
  assert.deepEqual(codes(await inventory(tree)), { loop3: "NOT_SELECTED" });
  const some = await inventory(tree, ["/dev/vda", "serial:c", "loop3", "vdz"]);
  assert.deepEqual(names(some), ["loop3", "vda", "vdc"]);
  assert.deepEqual(codes(some), { vdb: "NOT_SELECTED", vdz: "NOT_A_DISK" });
});

test("the boot disk is the one below the boot loader's files", async (t) => {
  const disks = (tree: KernelTree): KernelTree =>
    tree
      .disk("vda", {
        device: "254:0",
        sectors: SECTORS,
        content: mbr(1),
        partitions: { vda1: { device: "254:1", start: 2048, sectors: 4096 } },
      })
      .disk("vdb", { device: "254:16", sectors: SECTORS, content: mbr(2, 0xeb) })
      .disk("md0", { device: "9:0", sectors: SECTORS, slaves: ["vda", "vdb"] });
  const bootOf = async (mountInfo: string): Promise<readonly string[]> => {
    const found = await inventory(disks(new KernelTree(t)).process("self", 1, mountInfo));
    return found.disks.filter(({ isBoot }) => isBoot).map(({ name }) => name);
  };
  const root = "22 1 254:16 / / rw - ext4 /dev/vdb rw\n";
  assert.deepEqual(await bootOf(root), ["vdb"]);
  assert.deepEqual(await bootOf(`${root}23 22 254:1 / /boot rw - ext4 /dev/vda1 rw\n`), ["vda"]);
  const auto = "24 22 0:9 / /boot/efi rw - autofs systemd-1 rw\n";
  assert.deepEqual(await bootOf(root + auto), ["vdb"]);
  assert.deepEqual(await bootOf("22 1 9:0 / / rw - ext4 /dev/md0 rw\n"), ["vdb"]);
  assert.deepEqual(await bootOf(""), []);
});

test("swap areas without their header page, in whole blocks", async (t) => {
  const tree = new KernelTree(t)
    .disk("vda", {
      device: "254:0",
      sectors: SECTORS,
      files: { serial: "a\n" },
      partitions: {
        vda1: { device: "254:1", start: 2048, sectors: 8000 },
        vda2: { device: "254:2", start: 20_001, sectors: 801 },
      },
    })
    .disk("vdb", { device: "254:16", sectors: SECTORS, files: { serial: "b\n" } })
    .file(
      "proc/swaps",
      "Filename Type Size Used Priority\n/dev/vda1 partition 4000 0 -2\n/dev/vda2\tpartition\t400\t0\t-3\n" +
        "/swapfile file 1000 0 -4\n/dev/vdb partition 1000 0 -5\n/dev/dm-1 partition 1000 0 -6\n",
    )
    .process("self", 1, "");
  const found = await inventory(tree);
  assert.deepEqual(
    found.disks.map(({ swapRanges }) => swapRanges),
    [
      [
        { sector: 2056, count: 7992 },
        { sector: 20_016, count: 784 },
      ],
      [{ sector: 8, count: SECTORS - 8 }],
    ],
  );
  const auxv = Buffer.alloc(32);
  auxv.writeBigUInt64LE(6n, 0);
  auxv.writeBigUInt64LE(65_536n, 8);
  tree.file("proc/self/auxv", auxv);
  const withLargePages = await inventory(tree);
  assert.deepEqual(withLargePages.disks[1]?.swapRanges, [{ sector: 128, count: SECTORS - 128 }]);
});

test("a disk that holds replicated data is refused, also through layers", async (t) => {
  const tree = new KernelTree(t)
    .disk("vda", { device: "254:0", sectors: SECTORS, files: { serial: "a\n" } })
    .disk("vdb", { device: "254:16", sectors: SECTORS, files: { serial: "b\n" } })
    .disk("dm-0", { device: "253:0", sectors: SECTORS, slaves: ["vdb"] })
    .process(
      "self",
      1,
      "22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 253:0 / /srv rw - ext4 x rw\n",
    );
  const found = await inventory(tree, [], ["/srv/osr/spool-that-is-not-there-yet"]);
  assert.deepEqual(names(found), ["vda"]);
  assert.equal(codes(found)["vdb"], "HOLDS_REPLICATED_DATA");
});

test("a disk with a folder that a role of this machine holds is refused, whatever its device number", async (t) => {
  const unix = (dev: bigint): string =>
    `Num       RefCount Protocol Flags    Type St Inode Path\n0: 2 0 10000 0001 01 1 @osr-data-${dev}-12\n0: 2 0 10000 0001 01 1 @other-1-2\n`;
  // makedev(3) of 254:16 and of 4200:70000.
  const wide =
    ((4200n & 0xfffn) << 8n) |
    ((4200n & ~0xfffn) << 32n) |
    (70_000n & 0xffn) |
    ((70_000n & ~0xffn) << 12n);
  for (const [dev, device] of [
    [BigInt(254 * 256 + 16), "254:16"],
    [wide, "4200:70000"],
  ] as const) {
    const tree = new KernelTree(t)
      .disk("vda", { device: "254:0", sectors: SECTORS, files: { serial: "a\n" } })
      .disk("vdb", { device, sectors: SECTORS, files: { serial: "b\n" } })
      .process("self", 1, "22 1 254:0 / / rw - ext4 /dev/vda rw\n");
    tree.file("proc/net/unix", unix(dev));
    const found = await inventory(tree);
    assert.deepEqual(names(found), ["vda"]);
    assert.equal(codes(found)["vdb"], "HOLDS_REPLICATED_DATA");
    const [major = 0, minor = 0] = device.split(":").map(Number);
    const disks = [
      { name: "vda", major: 254, minor: 0 },
      { name: "vdb", major, minor },
    ];
    assert.deepEqual(disksWithReplicatedData(disks, tree.roots), ["vdb"]);
  }
});

test("a role's hold on its folder is seen by the kernel's own names", async (t) => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), "osr-hold-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const { dev } = fs.statSync(folder);
  const device = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
  const others = devicesOfDataFolders(systemRoots).includes(device);
  {
    await using held = await holdDataFolder(folder);
    assert.notEqual(held, undefined);
    assert.ok(devicesOfDataFolders(systemRoots).includes(device));
    assert.equal(await holdDataFolder(folder), undefined);
  }
  // Other processes of this machine may hold folders on the same disk.
  if (!others) assert.ok(!devicesOfDataFolders(systemRoots).includes(device));
  await using again = await holdDataFolder(folder);
  assert.notEqual(again, undefined);
});

test(
  "a loop disk of this machine, when it is named",
  { skip: loopSkipReason("mkfs.ext4") ?? false },
  async (t) => {
    const loops = new LoopDisks(t);
    const disk = loops.create(16 * 1024 * 1024);
    loops.mount(disk, "ext4", "-q", "-U", "01234567-89ab-cdef-0123-456789abcdef");
    const found = await readDiskInventory({ selection: [disk.path], replicatedDataFolders: [] });
    assert.deepEqual(found.disks, [
      {
        identity: "fsuuid:01234567-89ab-cdef-0123-456789abcdef",
        name: disk.name,
        path: disk.path,
        major: disk.major,
        minor: disk.minor,
        sizeBytes: disk.sizeBytes,
        logicalSectorBytes: 512,
        isBoot: false,
        sequence: found.disks[0]?.sequence,
        swapRanges: [],
      },
    ]);
  },
);
