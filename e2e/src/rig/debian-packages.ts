import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";

import { must } from "@osr/base/assert";
import { MINUTE_MS } from "@osr/base/units";

import { runCommand } from "./commands.ts";

const DOWNLOAD_TIMEOUT_MS = 5 * MINUTE_MS;

/**
 * Downloads what a meta package stands for (its first dependency, such as the kernel of one version) with the host's
 * own apt sources and unpacks it into `directory`, without installing anything.
 */
export async function unpackDependencyOf(
  metaPackage: string,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const downloads = join(directory, "download");
  await mkdir(downloads);
  const options = await aptOptions(metaPackage, directory, signal);
  const text = await runCommand("apt-cache", [...options, "depends", metaPackage], {
    timeoutMs: MINUTE_MS,
    signal,
  });
  const [, name] = /^\s*Depends: (\S+)$/m.exec(text) ?? [];
  await runCommand(
    "apt-get",
    ["-q", ...options, "download", must(name, `${metaPackage} depends on nothing`)],
    { timeoutMs: DOWNLOAD_TIMEOUT_MS, directory: downloads, signal },
  );
  const [archive] = await readdir(downloads);
  await runCommand(
    "dpkg-deb",
    ["-x", join(downloads, must(archive, `apt-get downloaded no ${name}`)), directory],
    { timeoutMs: MINUTE_MS, signal },
  );
}

/**
 * Options with which apt knows `name`: the host's package lists where they have it, else fresh ones fetched into
 * `directory`. The host stays as it is.
 */
async function aptOptions(
  name: string,
  directory: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  // As root apt would hand the download to a user of its own, which may not write to our folder.
  const common = ["-o", "APT::Sandbox::User=root"];
  try {
    await runCommand("apt-cache", ["show", name], { timeoutMs: MINUTE_MS, signal });
    return common;
  } catch {
    signal.throwIfAborted();
  }
  const lists = join(directory, "lists");
  const cache = join(directory, "apt-cache");
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(cache, "archives", "partial"), { recursive: true });
  const own = [...common, "-o", `Dir::State::Lists=${lists}`, "-o", `Dir::Cache=${cache}`];
  await runCommand("apt-get", ["-q", ...own, "update"], { timeoutMs: DOWNLOAD_TIMEOUT_MS, signal });
  return own;
}
