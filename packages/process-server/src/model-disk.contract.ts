import assert from "node:assert/strict";

import { BLOCK_BYTES } from "@osr/base/block-range";
import type { BlockSource } from "@osr/base/block-source";

import type { Change } from "./test-agent.contract.ts";

/** Numbers that repeat with the same seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.trunc(seed);
  }

  /** Below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  chance(share: number): boolean {
    return this.below(1_000_000) < share * 1_000_000;
  }
}

/** What a disk should hold: the naive model of everything between agent and storage account. */
export class ModelDisk {
  readonly blockCount: number;
  #blocks = new Map<number, Buffer>();

  constructor(blockCount: number) {
    this.blockCount = blockCount;
  }

  get sizeBytes(): number {
    return this.blockCount * BLOCK_BYTES;
  }

  apply(change: Change): void {
    if (change.type === "data")
      for (let index = 0; index * BLOCK_BYTES < change.content.length; index++)
        this.#blocks.set(
          change.block + index,
          change.content.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES),
        );
    if (change.type === "zero")
      for (let index = 0; index < change.count; index++) this.#blocks.delete(change.block + index);
  }

  copy(): ModelDisk {
    const copy = new ModelDisk(this.blockCount);
    copy.#blocks = new Map(this.#blocks);
    return copy;
  }

  /** Fails where `source` differs anywhere. */
  async compare(source: BlockSource, what: string): Promise<void> {
    assert.equal(source.sizeBytes, this.sizeBytes, what);
    const zero = Buffer.alloc(BLOCK_BYTES);
    const piece = Buffer.alloc(256 * BLOCK_BYTES);
    for (let block = 0; block < this.blockCount; block += 256) {
      const count = Math.min(256, this.blockCount - block);
      const bytes = piece.subarray(0, count * BLOCK_BYTES);
      await source.read(block * BLOCK_BYTES, bytes);
      for (let index = 0; index < count; index++) {
        const got = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
        const expected = this.#blocks.get(block + index) ?? zero;
        assert.ok(got.equals(expected), `${what}: block ${block + index} differs`);
      }
    }
  }
}

/** A random change of the disk: runs long and short, text, noise and zeros, often where something was before. */
export function randomChange(dice: Dice, blockCount: number): Change {
  const hot = dice.chance(0.5);
  const limit = hot ? Math.min(64, blockCount) : blockCount;
  const count = Math.min(limit, dice.chance(0.7) ? 1 + dice.below(4) : 1 + dice.below(60));
  const block = dice.below(limit - count + 1);
  if (dice.chance(0.15)) return { type: "zero", block, count };
  const content = Buffer.alloc(count * BLOCK_BYTES);
  for (let index = 0; index < count; index++) {
    const target = content.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    if (dice.chance(0.1)) continue;
    if (dice.chance(0.5)) target.fill(`text ${dice.below(2 ** 30)} `);
    else for (let at = 0; at < BLOCK_BYTES; at += 4) target.writeUInt32LE(dice.below(2 ** 32), at);
  }
  return { type: "data", block, content };
}
