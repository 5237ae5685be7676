import { Worker } from "node:worker_threads";

import { OsrError } from "@osr/base/errors";

import type { MaterialiseJob, MaterialiseReply } from "./materialise-job.ts";

/** In development a thread runs the .ts file, in a release the .js file beside this one. */
const WORKER_FILE = import.meta.url.endsWith(".ts")
  ? "./materialise-worker.ts"
  : "./materialise-worker.js";

type Pending = {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

/** Worker threads that decode and write. A thread that fails fails all jobs: nothing is started again here. */
export class MaterialiseThreads implements AsyncDisposable {
  readonly #workers: readonly Worker[];
  readonly #pending = new Map<number, Pending>();
  #failure: unknown;
  #jobNoNext = 0;

  constructor(threads: number) {
    this.#workers = Array.from({ length: threads }, () => this.#start());
  }

  /** Runs a job. Its memory belongs to the thread until then. */
  run(job: Omit<MaterialiseJob, "jobNo">): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const jobNo = this.#jobNoNext++;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#pending.set(jobNo, { resolve, reject });
    this.#workers[jobNo % this.#workers.length]?.postMessage({ ...job, jobNo });
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #start(): Worker {
    const worker = new Worker(new URL(WORKER_FILE, import.meta.url), { name: "materialise" });
    worker.on("message", (reply: MaterialiseReply) => this.#settle(reply));
    worker.on("error", (error) => this.#fail(error));
    worker.on("exit", () => this.#fail(new Error("a thread ended before its jobs")));
    return worker;
  }

  #settle({ jobNo, failure }: MaterialiseReply): void {
    const pending = this.#pending.get(jobNo);
    this.#pending.delete(jobNo);
    if (failure === undefined) pending?.resolve();
    else pending?.reject(new OsrError(failure, failure.message, { details: failure.details }));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
