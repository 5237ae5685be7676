import { type EncodeJob, type EncodedBatch, encodeBatch } from "./encode-batch.ts";

/**
 * Turns batches into frames. `encode` may be called any number of times at once; it takes the body over (the caller must
 * not use it again). Fails with ENCODER_FAILED, then the same batch may be tried again with a new object.
 */
export interface Encoder extends AsyncDisposable {
  encode(job: EncodeJob): Promise<EncodedBatch>;
}

/** Encodes in the calling thread: for simulation, where everything must happen in one order. */
export const inProcessEncoder: Encoder = {
  // oxlint-disable-next-line typescript/require-await -- the port is asynchronous
  encode: async (job) => encodeBatch(job),
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
