import { BLOCK_BYTES } from "@osr/base/block-range";

/** Sectors of 512 bytes. */
export type SectorRange = { readonly sector: number; readonly count: number };

const BLOCK_SECTORS = BLOCK_BYTES / 512;

/** Makes the blocks of [block, block + count) that lie wholly in swap zero in `memory`, which holds them from byte `at` on. */
export function maskSwap(
  ranges: readonly SectorRange[],
  block: number,
  count: number,
  memory: Buffer,
  at: number,
): void {
  for (const { sector, count: sectors } of ranges) {
    const from = Math.max(block, Math.ceil(sector / BLOCK_SECTORS));
    const to = Math.min(block + count, Math.floor((sector + sectors) / BLOCK_SECTORS));
    if (from < to)
      memory.fill(0, at + (from - block) * BLOCK_BYTES, at + (to - block) * BLOCK_BYTES);
  }
}
