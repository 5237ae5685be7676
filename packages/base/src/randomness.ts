/** Random bytes come in through this port, so that simulation can replay us. */
export interface Randomness {
  /** `count` fresh bytes, fit for keys. */
  bytes(count: number): Buffer;
}
