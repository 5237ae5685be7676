/** One line of /proc/<pid>/mountinfo. */
export type MountEntry = {
  readonly mountId: number;
  /** `major:minor` of the superblock; the major is 0 where the file system has no single disk (btrfs, tmpfs). */
  readonly device: string;
  /** The folder of the file system that is mounted: `/` unless it is a bind mount or a subvolume. */
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
};

/** Parses mountinfo, in order of mounting. Lines that it cannot read are left out: newer kernels may add kinds. */
export function parseMountTable(text: string): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split("\n")) {
    const words = line.split(" ");
    const separator = words.indexOf("-", 6);
    const [mountId, , device, root, mountPoint] = words;
    const [type, source] = words.slice(separator + 1);
    if (separator === -1 || mountId === undefined || device === undefined) continue;
    if (root === undefined || mountPoint === undefined || type === undefined) continue;
    if (!/^\d+$/.test(mountId) || !/^\d+:\d+$/.test(device)) continue;
    entries.push({
      mountId: Number(mountId),
      device,
      root: unescapeOctal(root),
      mountPoint: unescapeOctal(mountPoint),
      type,
      source: unescapeOctal(source ?? ""),
    });
  }
  return entries;
}

/** The entry that holds `path`: the one with the longest mount point, the newest where several are stacked. */
export function mountOfPath(entries: readonly MountEntry[], path: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of entries) {
    const prefix = entry.mountPoint === "/" ? "/" : `${entry.mountPoint}/`;
    if (path !== entry.mountPoint && !path.startsWith(prefix)) continue;
    if (best === undefined || entry.mountPoint.length >= best.mountPoint.length) best = entry;
  }
  return best;
}

/** The kernel writes blanks, tabs, newlines and backslashes of paths as `\040` and so on, byte by byte. */
export function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
