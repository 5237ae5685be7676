import { createHash } from "node:crypto";

import type { Randomness } from "@osr/base/randomness";

/** Random bytes that are the same in every run. For tests and golden bytes only. */
export function seededRandomness(seed: string): Randomness {
  let counter = 0;
  return {
    bytes(count) {
      const parts: Buffer[] = [];
      for (let bytes = 0; bytes < count; bytes += 32)
        parts.push(createHash("sha256").update(`${seed}|${counter++}`).digest());
      return Buffer.concat(parts).subarray(0, count);
    },
  };
}
