import fs from "node:fs";
import path from "node:path";

import { BLOCK_BYTES } from "@osr/base/block-range";

import { unescapeOctal } from "./mount-table.ts";
import { type SystemRoots, readNumber, readText, systemRoots } from "./system-roots.ts";
import type { SectorRange } from "./change-tracker.ts";

const BLOCK_SECTORS = BLOCK_BYTES / 512;
const AUXV_PAGE_SIZE = 6;
const AUXV_ENTRY_BYTES = 16;

/**
 * The sectors of a disk that are in use as swap, in whole blocks, without the header, which takes one page of the machine's
 * memory. Partitions and whole disks only: a swap file or a swap volume of LVM is replicated like other data.
 */
export function swapRangesOf(diskName: string, roots: SystemRoots): readonly SectorRange[] {
  const ranges: SectorRange[] = [];
  const lines = (readText(roots.procfs, "swaps") ?? "").split("\n").slice(1);
  for (const line of lines) {
    const [file, kind] = line.split(/\s+/);
    if (file === undefined || kind !== "partition") continue;
    const name = path.basename(unescapeOctal(file));
    const range = rangeOnDisk(name, diskName, roots);
    if (range !== undefined) ranges.push(withoutHeader(range, pageBytes(roots)));
  }
  return ranges.filter((range) => range.count > 0);
}

/**
 * Which areas are in use as swap, in one text that changes when they do. Synchronous, takes microseconds.
 */
export function swapNames(roots: SystemRoots = systemRoots): string {
  return (readText(roots.procfs, "swaps") ?? "")
    .split("\n")
    .map((line) => line.split(/\s+/).slice(0, 3).join(" "))
    .join("\n");
}

function rangeOnDisk(name: string, diskName: string, roots: SystemRoots): SectorRange | undefined {
  const isDisk = name === diskName;
  const folder = isDisk ? [name] : [diskName, name];
  const count = readNumber(roots.sysfs, "block", ...folder, "size");
  const sector = isDisk ? 0 : readNumber(roots.sysfs, "block", ...folder, "start");
  return count === undefined || sector === undefined ? undefined : { sector, count };
}

function withoutHeader(range: SectorRange, headerBytes: number): SectorRange {
  const start = range.sector + headerBytes / 512;
  const sector = Math.ceil(start / BLOCK_SECTORS) * BLOCK_SECTORS;
  const end = Math.floor((range.sector + range.count) / BLOCK_SECTORS) * BLOCK_SECTORS;
  return { sector, count: Math.max(0, end - sector) };
}

/** Size of a page of memory, from what the kernel told this process at its start. */
function pageBytes(roots: SystemRoots): number {
  let auxv: Buffer;
  try {
    auxv = fs.readFileSync(path.join(roots.procfs, "self/auxv"));
  } catch {
    return BLOCK_BYTES;
  }
  for (let offset = 0; offset + AUXV_ENTRY_BYTES <= auxv.length; offset += AUXV_ENTRY_BYTES) {
    if (auxv.readBigUInt64LE(offset) !== BigInt(AUXV_PAGE_SIZE)) continue;
    return Number(auxv.readBigUInt64LE(offset + 8));
  }
  return BLOCK_BYTES;
}
