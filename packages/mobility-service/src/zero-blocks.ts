import { BLOCK_BYTES } from "@osr/base/block-range";
import { isZeroBlock } from "@osr/base/zero";

/**
 * From block `from` on: how many blocks before `to` are zero (`zero` true), or are not (`zero` false), without a break.
 * Block numbers count within `memory`. Allocates nothing.
 */
export function stretch(memory: Buffer, from: number, to: number, zero: boolean): number {
  let at = from;
  while (at < to && isZeroBlock(memory, at * BLOCK_BYTES) === zero) at += 1;
  return at - from;
}
