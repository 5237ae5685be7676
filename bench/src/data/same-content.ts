import { open } from "node:fs/promises";

import { MIB } from "@osr/base/units";

/** True where two files hold the same bytes. */
export async function sameContent(one: string, other: string): Promise<boolean> {
  await using first = await open(one, "r");
  await using second = await open(other, "r");
  const buffers = [Buffer.alloc(4 * MIB), Buffer.alloc(4 * MIB)] as const;
  for (let at = 0; ;) {
    const a = await first.read(buffers[0], 0, buffers[0].length, at);
    const b = await second.read(buffers[1], 0, buffers[1].length, at);
    if (a.bytesRead !== b.bytesRead) return false;
    if (a.bytesRead === 0) return true;
    if (!buffers[0].subarray(0, a.bytesRead).equals(buffers[1].subarray(0, a.bytesRead)))
      return false;
    at += a.bytesRead;
  }
}
