import fs from "node:fs";
import path from "node:path";

/** Where the kernel shows itself; tests put fixtures here. */
export type SystemRoots = {
  readonly sysfs: string;
  readonly procfs: string;
  readonly dev: string;
};

export const systemRoots: SystemRoots = { sysfs: "/sys", procfs: "/proc", dev: "/dev" };

/** The trimmed text of a small file of sysfs or procfs, or undefined where there is none or it cannot be read. */
export function readText(...parts: readonly string[]): string | undefined {
  try {
    return fs.readFileSync(path.join(...parts), "utf8").trim();
  } catch {
    return undefined;
  }
}

/** The number in such a file. */
export function readNumber(...parts: readonly string[]): number | undefined {
  const text = readText(...parts);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** Names in a folder, sorted; none where it does not exist or vanishes meanwhile. */
export function readNames(...parts: readonly string[]): readonly string[] {
  try {
    return fs.readdirSync(path.join(...parts)).toSorted();
  } catch {
    return [];
  }
}
