import { DATA_FOLDER_NAME } from "@osr/base/platform/data-folder";

import { type SystemRoots, readText } from "./system-roots.ts";

/** Devices (`major:minor`) of the file systems in which roles of this machine hold replicated data at the moment. */
export function devicesOfDataFolders(roots: SystemRoots): readonly string[] {
  const devices = new Set<string>();
  for (const line of (readText(roots.procfs, "net/unix") ?? "").split("\n")) {
    const [, dev] = DATA_FOLDER_NAME.exec(line) ?? [];
    if (dev !== undefined) devices.add(deviceOf(BigInt(dev)));
  }
  return [...devices];
}

/** `major:minor` of what stat gives as st_dev: the C library spreads both over 64 bits (makedev(3)). */
function deviceOf(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn & 0xffffffffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}
