import { copyFile, mkdir, open, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { createHash } from "node:crypto";

import { assert } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { KIB, MIB, MINUTE_MS } from "@osr/base/units";

import { BENCH_ERRORS } from "../bench-errors.ts";
import { type CommandOptions, runCommand } from "../machine/command.ts";
import type { Narrator } from "../narrator.ts";
import { PROJECT_DIRECTORY } from "../site/shipped-programs.ts";

/** Port of the guest's HTTP service. */
export const GUEST_HTTP_PORT = 8080;

const DISK_BYTES = 1024 * MIB;
const SECTOR_BYTES = 512;
const PARTITION_OFFSET_BYTES = MIB;
/** sfdisk ends the last partition at a whole MiB. */
const PARTITION_SLACK_BYTES = MIB;
const BOOT_CODE_BYTES = 440;
const ROOT_UUID = "44444444-4444-4444-8444-444444444444";
const PACKAGES = "systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools,zstd,busybox-static";
const EXCLUDED = ["man", "doc", "locale", "info"].map(
  (folder) => `--dpkgopt=path-exclude=/usr/share/${folder}/*`,
);
const GRUB_FOLDER = "/usr/lib/grub/i386-pc";
const GRUB_MODULES =
  "biosdisk part_msdos ext2 search search_fs_uuid configfile normal linux serial terminal echo";
const GRUB_EARLY = `search.fs_uuid ${ROOT_UUID} root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
`;

const FILES: Readonly<Record<string, string>> = {
  "etc/hostname": "guest\n",
  "etc/fstab": `UUID=${ROOT_UUID} / ext4 defaults 0 0\n`,
  "etc/systemd/network/20-dhcp.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n",
  "etc/systemd/system/bench-http.service": `[Unit]
After=network.target
[Service]
ExecStart=/bin/busybox httpd -f -p ${GUEST_HTTP_PORT} -h /srv/www
[Install]
WantedBy=multi-user.target
`,
  "srv/www/index.html": "guest\n",
  "boot/grub/grub.cfg": `serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
menuentry Debian {
  linux /boot/vmlinuz root=UUID=${ROOT_UUID} ro console=ttyS0,115200 net.ifnames=0 quiet
  initrd /boot/initrd.img
}
`,
};

/**
 * A disk with a small Debian that starts by BIOS and GRUB and answers HTTP: made once, by mmdebstrap from the host's own
 * package sources, and kept in the cache. Nothing may write to it. Nothing is mounted for it.
 */
export async function guestImage(narrator: Narrator, signal: AbortSignal): Promise<string> {
  const recipe = JSON.stringify([PACKAGES, EXCLUDED, GRUB_EARLY, GRUB_MODULES, FILES, DISK_BYTES]);
  const key = createHash("sha256").update(recipe).digest("hex").slice(0, 16);
  const cache = join(PROJECT_DIRECTORY, ".cache", "bench");
  const path = join(cache, `guest-${key}.img`);
  if (existsSync(path)) return path;
  const work = join(cache, `unfinished-${systemRandomness.bytes(6).toString("hex")}`);
  await mkdir(work, { recursive: true });
  try {
    await narrator.step("making a Debian guest (once)", () => build(work, signal));
    await rename(join(work, "disk.img"), path);
    return path;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function build(work: string, signal: AbortSignal): Promise<void> {
  const common: CommandOptions = { timeoutMs: 15 * MINUTE_MS, signal };
  const root = join(work, "root");
  const { codename, sources } = await aptSources();
  await runCommand(
    "mmdebstrap",
    [
      ["--mode=root", "--variant=minbase", `--include=${PACKAGES}`, ...EXCLUDED],
      ["--aptopt=APT::Install-Recommends false", codename, root, ...sources],
    ].flat(),
    { ...common, environment: { DEBIAN_FRONTEND: "noninteractive" } },
  );
  for (const [path, content] of Object.entries(FILES)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  const enable =
    "systemctl -q enable systemd-networkd bench-http; systemctl -q mask systemd-networkd-wait-online";
  await runCommand("chroot", [root, "sh", "-ec", enable], common);
  const boot = await readdir(join(root, "boot"));
  for (const name of ["vmlinuz", "initrd.img"]) {
    const found = boot.find((file) => file.startsWith(`${name}-`));
    assert(found !== undefined, `the guest has a ${name}`);
    await copyFile(join(root, "boot", found), join(root, "boot", name));
  }
  await makeBootDisk(join(work, "disk.img"), root, common);
}

/** Partition table, GRUB for BIOS, one ext4 partition. */
async function makeBootDisk(path: string, tree: string, common: CommandOptions): Promise<void> {
  await using disk = await open(path, "wx+");
  await disk.truncate(DISK_BYTES);
  const table = `label: dos\nstart=${PARTITION_OFFSET_BYTES / SECTOR_BYTES}, type=83, bootable\n`;
  await runCommand("sfdisk", ["-q", path], { ...common, input: table });
  const bytes = DISK_BYTES - PARTITION_OFFSET_BYTES - PARTITION_SLACK_BYTES;
  await runCommand(
    "mke2fs",
    [
      ["-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", tree],
      ["-E", `root_owner=0:0,offset=${PARTITION_OFFSET_BYTES}`, path, `${bytes / KIB}k`],
    ].flat(),
    common,
  );
  const early = `${path}.grub`;
  const core = `${path}.core`;
  await writeFile(early, GRUB_EARLY);
  await runCommand(
    "grub-mkimage",
    [
      ["-O", "i386-pc", "-c", early, "-p", "/boot/grub", "-o", core],
      GRUB_MODULES.split(" "),
    ].flat(),
    common,
  );
  const coreBytes = await readFile(core);
  assert(coreBytes.length <= PARTITION_OFFSET_BYTES - SECTOR_BYTES, "GRUB fits");
  const bootCode = (await readFile(join(GRUB_FOLDER, "boot.img"))).subarray(0, BOOT_CODE_BYTES);
  // As they come, boot.img loads sector 1, and the first sector of core.img loads those behind it.
  await disk.write(bootCode, 0, bootCode.length, 0);
  await disk.write(coreBytes, 0, coreBytes.length, SECTOR_BYTES);
}

/** The host's own package sources for its release. */
async function aptSources(): Promise<{ readonly codename: string; readonly sources: string[] }> {
  const release = await readFile("/etc/os-release", "utf8");
  const codename = /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1] ?? "";
  const folder = "/etc/apt/sources.list.d";
  const names = (await readdir(folder)).filter((name) => /\.(?:sources|list)$/.test(name));
  const sources: string[] = [];
  for (const path of ["/etc/apt/sources.list", ...names.map((name) => join(folder, name))])
    if ((await readFile(path, "utf8").catch(() => "")).includes(codename)) sources.push(path);
  if (codename !== "" && sources.length > 0) return { codename, sources };
  throw new OsrError(BENCH_ERRORS.BENCH_UNSUPPORTED, "the guest is made on Debian only");
}
