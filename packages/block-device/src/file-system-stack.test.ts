import assert from "node:assert/strict";
import { test } from "node:test";

import { fileSystemsOnDisks } from "./file-system-stack.ts";
import { KernelTree } from "./testing/kernel-tree.ts";

/** A machine with a partitioned system disk, LVM over two disks, a mirror, a btrfs of two disks and loops. */
function machine(tree: KernelTree): KernelTree {
  return tree
    .disk("vda", {
      device: "254:0",
      sectors: 1000,
      partitions: {
        vda1: { device: "254:1", start: 8, sectors: 100 },
        vda2: { device: "254:2", start: 108, sectors: 100 },
      },
    })
    .disk("vdb", { device: "254:16", sectors: 1000 })
    .disk("vdc", { device: "254:32", sectors: 1000 })
    .disk("vdd", { device: "254:48", sectors: 1000 })
    .disk("vde", { device: "254:64", sectors: 1000 })
    .disk("md0", { device: "9:0", sectors: 1000, slaves: ["vdb", "vdc"] })
    .disk("dm-0", { device: "253:0", sectors: 1000, slaves: ["md0"] })
    .disk("loop0", { device: "7:0", sectors: 10, files: { "loop/backing_file": "/data/a.img\n" } })
    .disk("loop1", { device: "7:1", sectors: 10, files: { "loop/backing_file": "/upper/b.img\n" } })
    .link("sys/fs/btrfs/11111111-2222/devices/vdd", "/nowhere")
    .link("sys/fs/btrfs/11111111-2222/devices/vde", "/nowhere");
}

const MOUNTS = `22 1 254:2 / / rw - ext4 /dev/vda2 rw
23 22 254:1 / /boot/efi rw - vfat /dev/vda1 rw
24 22 0:20 / /proc rw - proc proc rw
25 22 253:0 / /data rw - ext4 /dev/mapper/vg-data rw
26 22 0:50 /@ /pool rw - btrfs /dev/vdd rw
27 22 0:50 /@snap /pool/snap rw - btrfs /dev/vdd rw
28 22 7:0 / /upper rw - ext4 /dev/loop0 rw
29 28 7:1 / /top rw - ext4 /dev/loop1 rw
30 22 254:2 /etc /mnt/etc rw - ext4 /dev/vda2 rw
`;

test("every file system of all disks once, those in files first, the root last", (t) => {
  const tree = machine(new KernelTree(t)).process("self", 1, MOUNTS);
  const disks = new Set(["254:0", "254:16", "254:32", "254:48", "254:64"]);
  const found = fileSystemsOnDisks(disks, tree.roots);
  assert.deepEqual(
    found.map(({ mountPoint, device, openPath }) => [mountPoint, device, openPath]),
    [
      ["/top", "7:1", "/top"],
      ["/upper", "7:0", "/upper"],
      ["/boot/efi", "254:1", "/boot/efi"],
      ["/data", "253:0", "/data"],
      ["/pool", "0:50", "/pool"],
      ["/", "254:2", "/"],
    ],
  );
});

test("only those that the disks hold, through every layer", (t) => {
  const tree = machine(new KernelTree(t)).process("self", 1, MOUNTS);
  const on = (disk: string): string[] =>
    fileSystemsOnDisks(new Set([disk]), tree.roots).map(({ mountPoint }) => mountPoint);
  assert.deepEqual(on("254:16"), ["/top", "/upper", "/data"]);
  assert.deepEqual(on("254:64"), ["/pool"]);
  assert.deepEqual(on("254:0"), ["/boot/efi", "/"]);
  assert.deepEqual(on("7:1"), ["/top"]);
  assert.deepEqual(on("254:99"), []);
});

test("mounts of other namespaces are reached through a process; ours come first", (t) => {
  const tree = machine(new KernelTree(t))
    .process("self", 1, "22 1 254:2 / / rw - ext4 /dev/vda2 rw\n")
    .process("10", 1, "22 1 254:2 / / rw - ext4 /dev/vda2 rw\n")
    .process("11", 2, "")
    .process(
      "12",
      2,
      "70 1 254:2 / / rw - ext4 /dev/vda2 rw\n71 70 254:1 / /esp rw - vfat /dev/vda1 rw\n",
    )
    .process("13", 2, "99 1 254:2 / / rw - ext4 /dev/vda2 rw\n");
  const found = fileSystemsOnDisks(new Set(["254:0"]), tree.roots);
  const root = `${tree.roots.procfs}/12/root`;
  assert.deepEqual(
    found.map(({ openPath, paths }) => [openPath, paths]),
    [
      [`${root}/esp`, [{ mountId: 71, openPath: `${root}/esp` }]],
      [
        "/",
        [
          { mountId: 22, openPath: "/" },
          { mountId: 70, openPath: `${root}/` },
        ],
      ],
    ],
  );
});

test("of several roots, ours is the last", (t) => {
  const tree = machine(new KernelTree(t))
    .process("self", 1, "22 1 254:2 / / rw - ext4 /dev/vda2 rw\n")
    .process("12", 2, "70 1 254:48 / / rw - ext4 /dev/vdd rw\n");
  const found = fileSystemsOnDisks(new Set(["254:0", "254:48"]), tree.roots);
  assert.deepEqual(
    found.map(({ device }) => device),
    ["254:48", "254:2"],
  );
});
