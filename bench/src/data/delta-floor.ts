import { open } from "node:fs/promises";
import { type Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";

import { BLOCK_BYTES } from "@osr/base/block-range";

const LEVEL = 3;

/**
 * The least that a delta can take without a better compressor: its 4 KiB blocks and nothing else, in the order of the disk,
 * as one stream of zstd -3. `path` is the disk with the changes.
 */
export async function deltaFloorBytes(path: string, blocks: readonly number[]): Promise<number> {
  await using file = await open(path, "r");
  const content = async function* (): AsyncGenerator<Buffer> {
    for (const block of blocks) {
      const bytes = Buffer.alloc(BLOCK_BYTES);
      await file.read(bytes, 0, BLOCK_BYTES, block * BLOCK_BYTES);
      yield bytes;
    }
  };
  const zstd: Duplex = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
  });
  let bytes = 0;
  await pipeline(content, zstd, async (compressed: AsyncIterable<Buffer>) => {
    for await (const chunk of compressed) bytes += chunk.length;
  });
  return bytes;
}
