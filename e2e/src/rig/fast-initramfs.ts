import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { gzipSync } from "node:zlib";

import { MINUTE_MS } from "@osr/base/units";

import { cachedArtefact } from "./artefact-cache.ts";
import { runCommand } from "./commands.ts";
import { type GuestKernel, guestKernel } from "./guest-kernel.ts";
import { guestShellScript } from "./guest-shell-script.ts";
import type { Narrator } from "./narrator.ts";
import { HOOK_DEVICE, SHELL_DEVICE } from "./serial-ports.ts";

const BUSYBOX = "/usr/bin/busybox";

// Gives the address and no default route: the machine reaches the host's loopback as 10.0.2.2 and nothing else.
const DHCP_SCRIPT = `#!/bin/sh
[ "$1" = bound ] && ifconfig "$interface" "$ip" netmask "$subnet" up
exit 0
`;

// Disks: the tools, the agent's program, then the data disks (serial data1, data2 …), mounted at /data1, /data2 …
const INIT = `#!/bin/sh
export PATH=/bin:/tools/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
for module in /modules/*.ko; do insmod $module; done
mount -t tracefs tracefs /sys/kernel/tracing
ifconfig lo 127.0.0.1 up
ifconfig eth0 up
udhcpc -s /dhcp -i eth0 -q -n -t 5 -T 1 >/dev/null 2>&1
for block in /sys/block/vd*; do
  disk=\${block##*/}
  serial=$(cat $block/serial)
  case $serial in
    tools|agent) mkdir -p /$serial; mount -t ext4 -o ro,noload /dev/$disk /$serial;;
    data*) mkdir -p /$serial; mount -t ext4 /dev/$disk /$serial;;
  esac
done
sleep 2147483647 <>${HOOK_DEVICE} &
stty -F ${HOOK_DEVICE} raw -echo 115200
setsid sh /shell.sh &
while :; do sleep 3600; done
`;

/** What a machine of the fast rig boots: Debian's kernel and a busybox in memory. */
export async function fastInitramfs(
  narrator: Narrator,
  signal?: AbortSignal,
): Promise<GuestKernel & { readonly initramfsPath: string }> {
  const kernel = await guestKernel(narrator, signal);
  const script = guestShellScript(SHELL_DEVICE);
  const directory = await cachedArtefact(
    {
      name: "fast-initramfs",
      recipe: ["1", dirname(kernel.imagePath), INIT, DHCP_SCRIPT, script],
      build: (target, abort) => buildInitramfs(kernel, script, target, abort),
    },
    narrator,
    signal,
  );
  return { ...kernel, initramfsPath: join(directory, "initramfs.gz") };
}

async function buildInitramfs(
  kernel: GuestKernel,
  shellScript: string,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const tree = join(directory, "tree");
  for (const name of ["bin", "proc", "sys", "dev", "etc", "tmp", "modules", "usr/lib"])
    await mkdir(join(tree, name), { recursive: true });
  await copyFile(BUSYBOX, join(tree, "bin", "busybox"));
  const applets = await runCommand(BUSYBOX, ["--list"], { timeoutMs: MINUTE_MS, signal });
  for (const applet of applets.split("\n").filter((name) => name !== "" && name !== "busybox"))
    await symlink("busybox", join(tree, "bin", applet));
  // The loader of the tools finds their libraries where Debian has them.
  await symlink("/tools/lib", join(tree, "usr", "lib", "x86_64-linux-gnu"));
  await symlink("/tools/lib64", join(tree, "lib64"));
  for (const [index, path] of kernel.modulePaths.entries())
    await copyFile(path, join(tree, "modules", `${10 + index}-${basename(path)}`));
  await writeFile(join(tree, "shell.sh"), shellScript);
  for (const [name, text] of [
    ["init", INIT],
    ["dhcp", DHCP_SCRIPT],
  ] as const) {
    await writeFile(join(tree, name), text);
    await chmod(join(tree, name), 0o755);
  }
  const archive = join(directory, "initramfs");
  await runCommand("sh", ["-c", `find . | cpio -o -H newc --quiet >'${archive}'`], {
    timeoutMs: MINUTE_MS,
    directory: tree,
    signal,
  });
  await writeFile(`${archive}.gz`, gzipSync(await readFile(archive), { level: 1 }));
  await runCommand("rm", ["-rf", tree, archive], { timeoutMs: MINUTE_MS });
}
