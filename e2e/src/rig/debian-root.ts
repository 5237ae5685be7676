import { chmod, mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { OsrError } from "@osr/base/errors";
import { MINUTE_MS } from "@osr/base/units";

import { cachedArtefact } from "./artefact-cache.ts";
import { runCommand } from "./commands.ts";
import { DEBIAN_FILES, DEBIAN_SETUP } from "./debian-files.ts";
import type { Narrator } from "./narrator.ts";
import { RIG_ERRORS } from "./rig-errors.ts";
import { distribution } from "./settings.ts";

/** Packages of the Debian machine, beside the essential ones. libatomic1 and libstdc++6: for Node. */
const PACKAGES = [
  "systemd-sysv",
  "udev",
  "linux-image-cloud-amd64",
  "initramfs-tools",
  "zstd",
  "kmod",
  "iproute2",
  "busybox-static",
  "postgresql",
  "libatomic1",
  "libstdc++6",
] as const;

const EXCLUDED = [
  "/usr/share/man/*",
  "/usr/share/doc/*",
  "/usr/share/locale/*",
  "/usr/share/info/*",
  // PostgreSQL's compiler of expressions, which it does without where it is missing: a fifth of all there is to replicate.
  "/usr/lib/*/libLLVM-*",
  "/usr/lib/*/libz3.*",
  "/usr/lib/postgresql/*/lib/llvmjit*",
  "/usr/lib/postgresql/*/lib/bitcode/*",
];

// A mount and process namespace of its own: whatever the setup starts or mounts ends with it. No network.
const IN_ROOT = `
mount -t proc proc "$0/proc"
mount -t tmpfs -o mode=1777 shm "$0/dev/shm"
exec chroot "$0" /bin/sh -s
`;

export type DebianTrees = { readonly rootTree: string; readonly dataTree: string };

/**
 * A Debian system as two folders: the root file system, and what the second disk holds. Made by mmdebstrap from the
 * host's own apt sources. Needs root. Nothing may write to them.
 */
export async function debianTrees(narrator: Narrator, signal?: AbortSignal): Promise<DebianTrees> {
  if (process.getuid?.() !== 0)
    throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, "a Debian machine can be built by root only");
  const base = await debianBase(narrator, signal);
  const directory = await cachedArtefact(
    {
      name: "debian-root",
      recipe: ["1", dirname(base), JSON.stringify(DEBIAN_FILES), DEBIAN_SETUP, IN_ROOT],
      build: (target, abort) => buildTrees(base, target, abort),
    },
    narrator,
    signal,
  );
  return { rootTree: join(directory, "root"), dataTree: join(directory, "data") };
}

/** The packages alone: nearly all of the time, and seldom anything new. */
async function debianBase(narrator: Narrator, signal?: AbortSignal): Promise<string> {
  const directory = await cachedArtefact(
    { name: "debian-base", recipe: ["1", ...PACKAGES, ...EXCLUDED], build: buildBase },
    narrator,
    signal,
  );
  return join(directory, "root");
}

async function buildBase(directory: string, signal: AbortSignal): Promise<void> {
  await runCommand(
    "mmdebstrap",
    [
      ["--mode=root", "--variant=minbase", `--include=${PACKAGES.join(",")}`],
      ["--aptopt=APT::Install-Recommends false"],
      EXCLUDED.map((path) => `--dpkgopt=path-exclude=${path}`),
      [distribution().codename, join(directory, "root"), ...(await aptSources())],
    ].flat(),
    { timeoutMs: 15 * MINUTE_MS, signal, environment: { DEBIAN_FRONTEND: "noninteractive" } },
  );
}

async function buildTrees(base: string, directory: string, signal: AbortSignal): Promise<void> {
  const root = join(directory, "root");
  await runCommand("cp", ["-a", "--reflink=auto", base, root], {
    timeoutMs: 5 * MINUTE_MS,
    signal,
  });
  for (const { path, content, mode } of DEBIAN_FILES) {
    const target = join(root, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content);
    await chmod(target, mode ?? 0o644);
  }
  await mkdir(join(root, "data"));
  await runCommand(
    "unshare",
    ["--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec", IN_ROOT, root],
    { timeoutMs: 5 * MINUTE_MS, input: DEBIAN_SETUP, signal },
  );
  await rename(join(root, "data"), join(directory, "data"));
  await mkdir(join(root, "data"));
}

/** The host's own apt sources that concern this release, as they are. */
async function aptSources(): Promise<string[]> {
  const { codename } = distribution();
  const folder = "/etc/apt/sources.list.d";
  const files = (await readdir(folder))
    .filter((name) => name.endsWith(".sources") || name.endsWith(".list"))
    .map((name) => join(folder, name));
  const concerning: string[] = [];
  for (const file of ["/etc/apt/sources.list", ...files]) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (text.includes(codename)) concerning.push(file);
  }
  if (concerning.length === 0)
    throw new OsrError(RIG_ERRORS.RIG_UNSUPPORTED, `no apt source for ${codename} in /etc/apt`);
  return concerning;
}
