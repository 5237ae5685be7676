import { Worker } from "node:worker_threads";

import { OsrError } from "@osr/base/errors";
import type { Log } from "@osr/base/log";

import type { EncodeJob, EncodedBatch } from "./encode-batch.ts";
import type { Encoder } from "./encoder.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

export const ENCODER_THREADS = 2;
/** Jobs in the inbox of one thread: one that is worked on and the next one, so that it never waits for us. */
const THREAD_JOBS_MAX = 2;

/** Threads that may die one after the other without a single result. */
const DEATHS_MAX = 8;

export type EncoderRequest = { readonly jobNo: number; readonly job: EncodeJob };
export type EncoderReply =
  | { readonly jobNo: number; readonly encoded: EncodedBatch }
  | { readonly jobNo: number; readonly failure: string };

type Pending = {
  readonly job: EncodeJob;
  readonly resolve: (encoded: EncodedBatch) => void;
  readonly reject: (error: OsrError) => void;
};

type Thread = { readonly worker: Worker; readonly pending: Map<number, Pending> };

/** In development the thread runs the .ts file, in a release the .js file beside this one. */
const WORKER_FILE = import.meta.url.endsWith(".ts") ? "./encoder-worker.ts" : "./encoder-worker.js";

/**
 * Encodes in worker threads. Bodies and frames change hands without being copied. A thread that dies fails its jobs and
 * is replaced. How many jobs can wait is limited by the byte budget of their bodies.
 */
export class WorkerEncoder implements Encoder {
  readonly #threads: Thread[] = [];
  readonly #waiting: Pending[] = [];
  readonly #log: Log;
  #jobNoNext = 0;
  #deaths = 0;
  #stopped = false;

  constructor(log: Log, threads: number = ENCODER_THREADS) {
    this.#log = log;
    for (let index = 0; index < threads; index++) this.#start();
  }

  encode(job: EncodeJob): Promise<EncodedBatch> {
    if (this.#stopped) return Promise.reject(failed("the encoder is stopped"));
    const { promise, resolve, reject } = Promise.withResolvers<EncodedBatch>();
    this.#waiting.push({ job, resolve, reject });
    this.#feed();
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    for (const { reject } of this.#waiting.splice(0)) reject(failed("the encoder is stopped"));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(): void {
    const worker = new Worker(new URL(WORKER_FILE, import.meta.url), { name: "encoder" });
    const thread: Thread = { worker, pending: new Map() };
    // Threads keep the process alive only while they work.
    worker.unref();
    worker.on("message", (reply: EncoderReply) => this.#settle(thread, reply));
    worker.on("error", (error) => this.#log.error("an encoder thread failed", { error }));
    worker.on("exit", () => this.#replace(thread));
    this.#threads.push(thread);
  }

  #settle(thread: Thread, reply: EncoderReply): void {
    const pending = thread.pending.get(reply.jobNo);
    thread.pending.delete(reply.jobNo);
    if (thread.pending.size === 0) thread.worker.unref();
    this.#deaths = 0;
    if ("encoded" in reply) pending?.resolve(reply.encoded);
    else pending?.reject(failed(reply.failure));
    this.#feed();
  }

  #replace(thread: Thread): void {
    this.#threads.splice(this.#threads.indexOf(thread), 1);
    for (const { reject } of thread.pending.values()) reject(failed("its thread ended"));
    if (this.#stopped) return;
    this.#deaths += 1;
    if (this.#deaths <= DEATHS_MAX) this.#start();
    else this.#giveUp();
    this.#feed();
  }

  #giveUp(): void {
    this.#stopped = true;
    this.#log.error("encoder threads die again and again; restart the process server");
    for (const { reject } of this.#waiting.splice(0)) reject(failed("its threads do not start"));
  }

  #feed(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const thread = this.#threads.toSorted((a, b) => a.pending.size - b.pending.size)[0];
      if (thread === undefined || thread.pending.size >= THREAD_JOBS_MAX) return;
      this.#waiting.shift();
      const jobNo = this.#jobNoNext++;
      thread.pending.set(jobNo, next);
      thread.worker.ref();
      const job = { ...next.job, body: unpooled(next.job.body) };
      thread.worker.postMessage({ jobNo, job } satisfies EncoderRequest, [job.body.buffer]);
    }
  }
}

/** Small bodies share memory of Node's pool, which cannot be handed over. */
function unpooled(body: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return body.byteLength === body.buffer.byteLength ? body : new Uint8Array(body);
}

function failed(message: string): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.ENCODER_FAILED,
    `the batch was not encoded: ${message}`,
  );
}
