/** Share of the newest measurement in the mean. */
const WEIGHT = 0.2;
const MEASURE_MS = 1000;

/** Mean of how fast bytes are read, over about the last five seconds. */
export class CopyRate {
  #bytes = 0;
  #atMs: number;
  #bytesPerSecond = 0;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** Takes the count of bytes so far down and returns the rate. */
  bytesPerSecond(bytes: number, nowMs: number): number {
    const elapsedMs = nowMs - this.#atMs;
    if (elapsedMs >= MEASURE_MS) {
      const newest = ((bytes - this.#bytes) / elapsedMs) * 1000;
      const isFirst = this.#bytesPerSecond === 0;
      this.#bytesPerSecond = isFirst
        ? newest
        : this.#bytesPerSecond * (1 - WEIGHT) + newest * WEIGHT;
      // What has come to rest shows as zero, not as a number that halves for ever.
      if (this.#bytesPerSecond < 1) this.#bytesPerSecond = 0;
      this.#bytes = bytes;
      this.#atMs = nowMs;
    }
    return this.#bytesPerSecond;
  }
}
