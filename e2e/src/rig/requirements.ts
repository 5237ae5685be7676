import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Programs of the host that the fast rig starts. */
const PROGRAMS = [
  "qemu-system-x86_64",
  "qemu-nbd",
  "nbdcopy",
  "mke2fs",
  "lvm",
  "mdadm",
  "mkfs.vfat",
  "mcopy",
  "cpio",
  "strip",
  "busybox",
  "fio",
  "ip",
  "tc",
  "nsenter",
  "unshare",
  "apt-get",
  "dpkg-deb",
  "setpriv",
] as const;

/** Why the rig cannot run on this host, or undefined. */
export function rigMissing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64")
    return "the rig needs Linux on x86-64";
  const missing = PROGRAMS.filter((program) => !isInstalled(program));
  return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}`;
}

function isInstalled(program: string): boolean {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
