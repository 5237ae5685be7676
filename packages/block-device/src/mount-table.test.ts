import assert from "node:assert/strict";
import { test } from "node:test";

import { mountOfPath, parseMountTable } from "./mount-table.ts";

const TEXT = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
30 22 0:25 / /proc rw - proc proc rw
31 22 254:17 / /srv/my\\040data\\134x rw,noatime shared:3 master:2 - xfs /dev/vdb1 rw
32 22 0:42 /@home /home rw - btrfs /dev/vdc rw,subvol=/@home
33 22 254:1 /etc/hosts /mnt/hosts rw - ext4 /dev/vda1 rw
not a mount
34 22 nonsense / /x rw - ext4 /dev/x rw
`;

test("mounts with optional fields, escapes, subvolumes and bind mounts", () => {
  const entries = parseMountTable(TEXT);
  assert.deepEqual(
    entries.map(({ mountId, device, root, mountPoint, type, source }) =>
      [mountId, device, root, mountPoint, type, source].join(" "),
    ),
    [
      "22 254:1 / / ext4 /dev/vda1",
      "30 0:25 / /proc proc proc",
      String.raw`31 254:17 / /srv/my data\x xfs /dev/vdb1`,
      "32 0:42 /@home /home btrfs /dev/vdc",
      "33 254:1 /etc/hosts /mnt/hosts ext4 /dev/vda1",
    ],
  );
});

test("a path belongs to the longest mount point, the newest of equals", () => {
  const entries = parseMountTable(`${TEXT}40 31 7:0 / /home rw - ext4 /dev/loop0 rw\n`);
  assert.equal(mountOfPath(entries, "/homes/x")?.mountId, 22);
  assert.equal(mountOfPath(entries, "/home")?.mountId, 40);
  assert.equal(mountOfPath(entries, "/home/user/file")?.mountId, 40);
  assert.equal(mountOfPath([], "/home"), undefined);
});
