import { type FileHandle } from "node:fs/promises";

import { assert, must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { KIB, MIB } from "@osr/base/units";

import { SeededBytes } from "./seeded-bytes.ts";

/** What is written to a disk between two recovery points; the same for the same seed and size. */
export type ChangeSet = {
  readonly name: string;
  readonly writes: readonly ChangeWrite[];
};

export type ChangeWrite = { readonly offset: number; readonly content: Buffer };

const RUN_PIECE_BYTES = MIB;
const HOT_REGION_BYTES = 8 * MIB;
const HOT_REGIONS = 12;
const LARGE_WRITE_BYTES = 256 * KIB;

export type ChangeSetOptions = {
  readonly seed: string;
  /** Writes go into [0, `rangeBytes`) of the disk, which may be larger. */
  readonly rangeBytes: number;
  /** 1 for the change sets of the goals; less writes less of everything. */
  readonly scale: number;
};

/** 4,000 random writes of 4 KiB all over the disk, half of them compressible, and a run of 32 MiB. */
export function scatteredChanges(options: ChangeSetOptions): ChangeSet {
  const { rangeBytes, scale } = options;
  const random = new SeededBytes(`scattered ${options.seed}`);
  const writes: ChangeWrite[] = [];
  for (let index = 0; index < scaled(4000, scale); index++) {
    const offset = random.below(rangeBytes / BLOCK_BYTES) * BLOCK_BYTES;
    writes.push({ offset, content: smallContent(random, index) });
  }
  const pieces = scaled(32, scale);
  const start = Math.floor((rangeBytes * 0.73) / MIB) * MIB;
  assert(start + pieces * RUN_PIECE_BYTES <= rangeBytes, "the run fits behind its start");
  for (let piece = 0; piece < pieces; piece++) {
    const half = RUN_PIECE_BYTES / 2;
    const content = Buffer.concat([random.bytes(half), Buffer.alloc(half, "A")]);
    writes.push({ offset: start + piece * RUN_PIECE_BYTES, content });
  }
  return { name: "scattered", writes };
}

/** 3,000 writes of 4 KiB and 40 of 256 KiB in 12 hot regions of 8 MiB, half of their bytes compressible. */
export function clusteredChanges(options: ChangeSetOptions): ChangeSet {
  const { rangeBytes, scale } = options;
  const random = new SeededBytes(`clustered ${options.seed}`);
  const regions = Array.from(
    { length: scaled(HOT_REGIONS, scale) },
    () => random.below((rangeBytes - HOT_REGION_BYTES) / MIB) * MIB,
  );
  const regionOf = (): number => must(regions[random.below(regions.length)], "region");
  const writes: ChangeWrite[] = [];
  for (let index = 0; index < scaled(3000, scale); index++) {
    const block = random.below(HOT_REGION_BYTES / BLOCK_BYTES);
    writes.push({ offset: regionOf() + block * BLOCK_BYTES, content: smallContent(random, index) });
  }
  for (let index = 0; index < scaled(40, scale); index++) {
    const half = LARGE_WRITE_BYTES / 2;
    const at = random.below(HOT_REGION_BYTES / LARGE_WRITE_BYTES - 3) * LARGE_WRITE_BYTES;
    const content = Buffer.concat([random.bytes(half), Buffer.alloc(half, "B")]);
    writes.push({ offset: regionOf() + at, content });
  }
  return { name: "clustered", writes };
}

/** Writes all of it in its order, and syncs. `file` may be a block device. */
export async function applyChanges(file: FileHandle, changes: ChangeSet): Promise<void> {
  for (const { offset, content } of changes.writes)
    await file.write(content, 0, content.length, offset);
  await file.datasync();
}

/** Numbers of the 4 KiB blocks that the change set touches, ascending. */
export function changedBlocks(changes: ChangeSet): readonly number[] {
  const blocks = new Set<number>();
  for (const { offset, content } of changes.writes)
    for (let at = offset; at < offset + content.length; at += BLOCK_BYTES)
      blocks.add(Math.floor(at / BLOCK_BYTES));
  return [...blocks].toSorted((a, b) => a - b);
}

function scaled(count: number, scale: number): number {
  return Math.max(1, Math.round(count * scale));
}

/** Every second write is random; the others are lines of a log. */
function smallContent(random: SeededBytes, index: number): Buffer {
  if (index % 2 === 1) return random.bytes(BLOCK_BYTES);
  const line = `log line ${String(index).padStart(8, "0")} ok\n`;
  return Buffer.alloc(BLOCK_BYTES, line);
}
