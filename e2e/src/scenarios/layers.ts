import { MIB, MINUTE_MS } from "@osr/base/units";

import type { Machine } from "../rig/machine.ts";
import { Site } from "../rig/site.ts";
import type { Scenario } from "../scenario.ts";
import { comparisonText, differs, pointsUnderLoad } from "./points-under-load.ts";

/** Two physical volumes and two members of a mirror. */
const DISKS_BYTES = [48 * MIB, 48 * MIB, 40 * MIB, 40 * MIB];
const POINTS_MIN = 5;

/** No udev here: LVM makes its device files by itself. */
const LVM_SETTINGS = "activation { udev_sync=0 udev_rules=0 } devices { use_devicesfile=0 }";

/**
 * The ext4 file systems of the data disks give way to others: /data1 lies on a striped logical volume over the first two
 * disks, /data2 on an md mirror of the others.
 */
const LAYERS = `
set -e
umount /data1 /data2 /data3 /data4
disk() { for block in /sys/block/vd*; do [ "$(cat $block/serial)" = "$1" ] && echo /dev/\${block##*/}; done; :; }
one=$(disk data1); two=$(disk data2); three=$(disk data3); four=$(disk data4)
for device in $one $two $three $four; do dd if=/dev/zero of=$device bs=64k count=1 conv=notrunc 2>/dev/null; done
mkdir -p /run/lock /etc/lvm
lvm pvcreate --config '${LVM_SETTINGS}' -ff -y $one $two
lvm vgcreate --config '${LVM_SETTINGS}' group $one $two
lvm lvcreate --config '${LVM_SETTINGS}' -y -Zn -Wn -i 2 -I 64k -l 100%FREE -n volume group
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 $three $four
/tools/bin/mke2fs -q -t ext4 /dev/mapper/group-volume
/tools/bin/mke2fs -q -t ext4 /dev/md0
mount -t ext4 /dev/mapper/group-volume /data1
mount -t ext4 /dev/md0 /data2
`;

/** What the agent's own program reads from the beginning of a disk. */
const LABELS = `
const { readFileSync } = process.getBuiltinModule("node:fs");
const { mdMemberId, physicalVolumeId } = await import(process.argv[2]);
const [volume, member] = ["/run/volume", "/run/member"].map((file) => readFileSync(file));
console.log("read", physicalVolumeId(volume), mdMemberId(member, Buffer.alloc(0)).replaceAll("-", ""));
`;

/** What lies over what; then how LVM and md call the first disk of each, and how the agent does. */
const FACTS = `
disk() { for block in /sys/block/vd*; do [ "$(cat $block/serial)" = "$1" ] && echo /dev/\${block##*/}; done; :; }
for layer in dm-0 md0; do echo $layer: $(ls /sys/block/$layer/slaves); done
volume=$(lvm pvs --config '${LVM_SETTINGS}' --noheadings -o pv_uuid $(disk data1))
member=$(mdadm --examine $(disk data3) | sed -n 's/ *Device UUID : //p')
echo said $volume $(echo $member | tr -d :)
dd if=$(disk data1) of=/run/volume bs=4k count=17 iflag=direct 2>/dev/null
dd if=$(disk data3) of=/run/member bs=4k count=17 iflag=direct 2>/dev/null
cat >/run/labels.mjs <<'SCRIPT'${LABELS}SCRIPT
node /run/labels.mjs /agent/node_modules/@osr/block-device/src/on-disk-identity.js
`;

/** File systems on LVM and md: the disks below are replicated, and frozen through the layers. */
export const layers: Scenario = {
  name: "layers",
  summary: `file systems on a striped LVM volume and an md mirror, written to: ${POINTS_MIN} points, each disk byte-exact`,
  async run(context) {
    const { folder, narrator, signal, check } = context;
    await using site = await narrator.step("starting the site", async () =>
      Site.start(await folder.folder("site"), signal),
    );
    let facts = "";
    const run = await pointsUnderLoad(context, site, {
      name: "layers",
      dataDisksBytes: DISKS_BYTES,
      prepare: async (machine) => {
        facts = await makeLayers(machine);
      },
      pointsMin: POINTS_MIN,
      agentOptions: {},
    });
    const stack = facts.split("\n").slice(0, 2).join(", ");
    check("both layers were in use", /dm-0: vd. vd., md0: vd. vd./.test(stack), stack);
    const [, said, read] = /^said (\S+ \S+)\nread (\S+ \S+)$/m.exec(facts) ?? [];
    check(
      "members are known by what LVM and md have written",
      said !== undefined && said === read,
      `said ${said}, read ${read}`,
    );
    const offered = run.points.filter((point) => point.offered === "yes");
    check(
      `at least ${POINTS_MIN} points were made under load`,
      offered.length >= POINTS_MIN,
      `${offered.length} offered of ${run.points.length}, ${run.cuts} cuts`,
    );
    const differing = run.comparisons.filter(differs);
    const disks = new Set(run.comparisons.map(({ disk }) => disk));
    check(
      "every disk below them is byte-exact",
      disks.size === DISKS_BYTES.length && differing.length === 0,
      differing.map(comparisonText).join("; ") ||
        `${run.comparisons.length} comparisons of ${disks.size} disks, all equal`,
    );
    const changed = [...disks].filter((disk) => contentsOf(disk, run.comparisons) > 1);
    check(
      "each of them changed from point to point",
      changed.length === disks.size,
      `${changed.length} of ${disks.size} disks`,
    );
  },
};

async function makeLayers(machine: Machine): Promise<string> {
  await machine.shell.must(LAYERS, 2 * MINUTE_MS);
  return machine.shell.must(FACTS, MINUTE_MS);
}

function contentsOf(
  disk: string,
  comparisons: readonly { readonly disk: string; readonly frozenSha256: string }[],
): number {
  const own = comparisons.filter((each) => each.disk === disk);
  return new Set(own.map(({ frozenSha256 }) => frozenSha256)).size;
}
