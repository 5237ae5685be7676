import { open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { assert } from "@osr/base/assert";
import { MIB, MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./commands.ts";
import { ESP_VOLUME_ID, ROOT_UUID } from "./debian-files.ts";
import { makeExt4 } from "./ext4.ts";

export type Firmware = "bios" | "uefi";

const DISK_BYTES = 1152 * MIB;
const SECTOR_BYTES = 512;
/** The first partition starts here; for BIOS, the boot loader lies before it. */
const PARTITION_OFFSET_BYTES = MIB;
/** sfdisk ends the last partition at a whole MiB, so a file system must leave one; a GPT also has its copy there. */
const PARTITION_SLACK_BYTES = MIB;
/** FAT32, as the UEFI specification asks for, has no smaller ones than about 33 MiB. */
const ESP_BYTES = 64 * MIB;
/** Code of the master boot record; the partition table follows it. */
const BOOT_CODE_BYTES = 440;

const GRUB_FOLDER = "/usr/lib/grub/i386-pc";
const GRUB_EARLY = `search.fs_uuid ${ROOT_UUID} root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
`;
const GRUB_MODULES = "ext2 search search_fs_uuid configfile normal linux serial terminal echo";
const GRUB_DISKS: Readonly<Record<Firmware, string>> = {
  bios: "biosdisk part_msdos",
  uefi: "part_gpt fat",
};

/** What the content of a boot disk depends on beside the tree. */
export const BOOT_DISK_RECIPE: readonly string[] = [
  GRUB_EARLY,
  GRUB_MODULES,
  ...Object.values(GRUB_DISKS),
];

type BootDisk = {
  readonly firmware: Firmware;
  /** Content of the root file system. */
  readonly tree: string;
  readonly signal: AbortSignal;
};

/**
 * A disk that boots a root file system, ext4, by GRUB; no loop device, nothing mounted. BIOS: a DOS partition table. UEFI: a
 * GPT, and before the root an EFI system partition with GRUB where firmware that knows nothing of the disk looks for it.
 */
export async function makeBootDisk(path: string, disk: BootDisk): Promise<void> {
  await writeFile(path, "");
  await truncate(path, DISK_BYTES);
  await (disk.firmware === "bios" ? makeBiosDisk(path, disk) : makeUefiDisk(path, disk));
}

async function makeBiosDisk(path: string, { tree, signal }: BootDisk): Promise<void> {
  await partition(path, `label: dos\n${at(PARTITION_OFFSET_BYTES)}, type=83, bootable\n`, signal);
  await makeRoot(path, PARTITION_OFFSET_BYTES, { tree, signal });
  const coreBytes = await grubImage(path, "bios", signal);
  assert(
    coreBytes.length <= PARTITION_OFFSET_BYTES - SECTOR_BYTES,
    "GRUB fits before the partition",
  );
  const bootCode = (await readFile(join(GRUB_FOLDER, "boot.img"))).subarray(0, BOOT_CODE_BYTES);
  await using file = await open(path, "r+");
  // As they come, boot.img loads sector 1 and the first sector of core.img loads those behind it.
  await file.write(bootCode, 0, bootCode.length, 0);
  await file.write(coreBytes, 0, coreBytes.length, SECTOR_BYTES);
}

async function makeUefiDisk(path: string, { tree, signal }: BootDisk): Promise<void> {
  const rootOffset = PARTITION_OFFSET_BYTES + ESP_BYTES;
  const esp = `${at(PARTITION_OFFSET_BYTES)}, size=${ESP_BYTES / SECTOR_BYTES}, type=uefi`;
  await partition(path, `label: gpt\n${esp}\n${at(rootOffset)}, type=linux\n`, signal);
  await makeRoot(path, rootOffset, { tree, signal });
  const loader = await grubImage(path, "uefi", signal);
  // A file of its own: with an offset, mkfs.vfat takes the disk's size for the partition's.
  const image = `${path}.esp`;
  const copy = `${path}.loader`;
  await writeFile(image, "");
  await truncate(image, ESP_BYTES);
  await writeFile(copy, loader);
  const run = (program: string, words: readonly string[]): Promise<string> =>
    runCommand(program, words, { timeoutMs: MINUTE_MS, signal });
  await run("mkfs.vfat", ["-F", "32", "-n", "ESP", "-i", ESP_VOLUME_ID.replace("-", ""), image]);
  await run("mmd", ["-i", image, "::/EFI", "::/EFI/BOOT"]);
  await run("mcopy", ["-i", image, copy, "::/EFI/BOOT/BOOTX64.EFI"]);
  const place = [`seek=${PARTITION_OFFSET_BYTES / MIB}`, "bs=1M", "conv=notrunc,sparse"];
  await run("dd", [`if=${image}`, `of=${path}`, "status=none", ...place]);
  await rm(image);
  await rm(copy);
}

function at(offsetBytes: number): string {
  return `start=${offsetBytes / SECTOR_BYTES}`;
}

async function partition(path: string, table: string, signal: AbortSignal): Promise<void> {
  await runCommand("sfdisk", ["-q", path], { timeoutMs: MINUTE_MS, input: table, signal });
}

async function makeRoot(
  path: string,
  offsetBytes: number,
  root: Pick<BootDisk, "tree" | "signal">,
): Promise<void> {
  await makeExt4(path, {
    sizeBytes: DISK_BYTES,
    label: "root",
    uuid: ROOT_UUID,
    partition: { offsetBytes, bytes: DISK_BYTES - offsetBytes - PARTITION_SLACK_BYTES },
    ...root,
  });
}

/** GRUB in one file, with what it does first. */
async function grubImage(path: string, firmware: Firmware, signal: AbortSignal): Promise<Buffer> {
  const early = `${path}.grub`;
  const core = `${path}.core`;
  await writeFile(early, GRUB_EARLY);
  const format = firmware === "bios" ? "i386-pc" : "x86_64-efi";
  const modules = `${GRUB_DISKS[firmware]} ${GRUB_MODULES}`.split(" ");
  await runCommand(
    "grub-mkimage",
    [["-O", format, "-c", early, "-p", "/boot/grub", "-o", core], modules].flat(),
    { timeoutMs: MINUTE_MS, signal },
  );
  const bytes = await readFile(core);
  await rm(early);
  await rm(core);
  return bytes;
}
