import { randomBytes } from "node:crypto";

import type { Randomness } from "../randomness.ts";

/** The operating system's random bytes. */
export const systemRandomness: Randomness = { bytes: (count) => randomBytes(count) };
