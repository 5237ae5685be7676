import { MINUTE_MS } from "@osr/base/units";

/** Shares of a machine that are in use, 0 to 1. */
export type LoadShares = { readonly cpu: number; readonly memory: number };

/** One a minute: means are over a quarter of an hour, as Azure Site Recovery's are. */
const BUCKETS_MAX = 15;

type Bucket = { minute: number; samples: number; cpu: number; memory: number };

/** Mean load of the machine over the last quarter of an hour, in one number a minute. Pure: time comes in as numbers. */
export class LoadWatch {
  readonly #buckets: Bucket[] = [];

  sample(load: LoadShares, nowMs: number): void {
    const minute = Math.floor(nowMs / MINUTE_MS);
    let bucket = this.#buckets.at(-1);
    if (bucket?.minute !== minute) {
      bucket = { minute, samples: 0, cpu: 0, memory: 0 };
      this.#buckets.push(bucket);
      if (this.#buckets.length > BUCKETS_MAX) this.#buckets.shift();
    }
    bucket.samples += 1;
    bucket.cpu += load.cpu;
    bucket.memory += load.memory;
  }

  /** Undefined until a whole window was watched: a short peak is nothing to act on. */
  get mean(): LoadShares | undefined {
    if (this.#buckets.length < BUCKETS_MAX) return undefined;
    let [cpu, memory] = [0, 0];
    for (const bucket of this.#buckets) {
      cpu += bucket.cpu / bucket.samples;
      memory += bucket.memory / bucket.samples;
    }
    return { cpu: cpu / BUCKETS_MAX, memory: memory / BUCKETS_MAX };
  }
}
