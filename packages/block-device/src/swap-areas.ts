import fs from "node:fs";
import path from "node:path";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { KIB } from "@osr/base/units";

import type { SectorRange } from "./change-tracker.ts";
import { unescapeOctal } from "./mount-table.ts";
import { swapFileRanges } from "./swap-file.ts";
import { type SystemRoots, readNumber, readText, systemRoots } from "./system-roots.ts";

const BLOCK_SECTORS = BLOCK_BYTES / 512;
const AUXV_PAGE_SIZE = 6;
const AUXV_ENTRY_BYTES = 16;

/**
 * The sectors of a disk that are in use as swap, in whole blocks, without the header, which takes one page of the machine's
 * memory: partitions, whole disks, and files of file systems that are a part of the disk. A swap volume of LVM, and a
 * file of which it is not certain where it lies, is replicated like other data.
 */
export function swapRangesOf(
  disk: { readonly name: string; readonly sizeBytes: number },
  roots: SystemRoots,
): readonly SectorRange[] {
  const headerBytes = pageBytes(roots);
  return areasInUse(roots)
    .flatMap(({ file, kind, sizeBytes }) => {
      if (kind === "file")
        return swapFileRanges({ path: file, sizeBytes, headerBytes }, disk, roots);
      if (kind !== "partition") return [];
      const range = rangeOnDisk(path.basename(file), disk.name, roots);
      return range === undefined ? [] : [withoutHeader(range, headerBytes)];
    })
    .map(inWholeBlocks)
    .filter((range) => range.count > 0);
}

/**
 * Which areas are in use as swap, in one text that changes when they do, also where a file was made anew in the place of
 * another one. Synchronous, takes microseconds.
 */
export function swapNames(roots: SystemRoots = systemRoots): string {
  return areasInUse(roots)
    .map(
      ({ file, kind, sizeBytes }) =>
        `${file} ${kind} ${sizeBytes}${kind === "file" ? fileName(file) : ""}`,
    )
    .join("\n");
}

type SwapArea = { readonly file: string; readonly kind: string; readonly sizeBytes: number };

function areasInUse(roots: SystemRoots): readonly SwapArea[] {
  const lines = (readText(roots.procfs, "swaps") ?? "").split("\n").slice(1);
  return lines.map((line) => {
    const [file = "", kind = "", size = "0"] = line.split(/\s+/);
    return { file: unescapeOctal(file), kind, sizeBytes: Number(size) * KIB };
  });
}

/** What tells a file from others that had its name: a file in use as swap cannot be written to. */
function fileName(file: string): string {
  try {
    const { dev, ino, ctimeNs } = fs.statSync(file, { bigint: true });
    return ` ${dev} ${ino} ${ctimeNs}`;
  } catch {
    return "";
  }
}

function rangeOnDisk(name: string, diskName: string, roots: SystemRoots): SectorRange | undefined {
  const isDisk = name === diskName;
  const folder = isDisk ? [name] : [diskName, name];
  const count = readNumber(roots.sysfs, "block", ...folder, "size");
  const sector = isDisk ? 0 : readNumber(roots.sysfs, "block", ...folder, "start");
  return count === undefined || sector === undefined ? undefined : { sector, count };
}

function withoutHeader(range: SectorRange, headerBytes: number): SectorRange {
  const headerSectors = headerBytes / 512;
  return { sector: range.sector + headerSectors, count: range.count - headerSectors };
}

function inWholeBlocks(range: SectorRange): SectorRange {
  const sector = Math.ceil(range.sector / BLOCK_SECTORS) * BLOCK_SECTORS;
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
