import fs from "node:fs";

import { readText } from "./system-roots.ts";

const FILE = "/sys/kernel/rcu_expedited";

/**
 * Freezing waits three times for the kernel's RCU to see every CPU rest, which takes it 15 ms each at its leisure. It can be
 * told to hurry, at the price of interrupting all CPUs: a median freeze of ext4 went from 45 ms to 0.6 ms, and under load
 * from 63 ms to 2.3 ms, measured with 2 CPUs and Linux 6.18.
 */
export class ExpeditedRcu implements Disposable {
  readonly file = FILE;
  /** `0` where it is ours to change; undefined where this kernel cannot be told. */
  readonly original: string | undefined;
  readonly #fd: number | undefined;

  constructor() {
    this.original = readText(FILE);
    this.#fd = this.original === "0" ? fs.openSync(FILE, "r+") : undefined;
  }

  /** Synchronous, and not a write to any disk. */
  begin(): void {
    this.#write("1");
  }

  end(): void {
    this.#write("0");
  }

  #write(value: string): void {
    if (this.#fd !== undefined) fs.writeSync(this.#fd, value, 0);
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
  }
}
