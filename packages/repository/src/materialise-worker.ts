import { parentPort } from "node:worker_threads";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";

import {
  type MaterialiseJob,
  type MaterialiseReply,
  runMaterialiseJob,
} from "./materialise-job.ts";

/** Worker thread of materialise.ts: one job a message, one reply each. Errors that are not ours end the thread. */
const port = must(parentPort, "runs as a worker thread");

port.on("message", (job: MaterialiseJob) => {
  const { jobNo } = job;
  try {
    runMaterialiseJob(job);
    reply({ jobNo });
  } catch (error) {
    if (!(error instanceof OsrError)) throw error;
    const { code, retryable, hint, message, details } = error;
    reply({ jobNo, failure: { code, retryable, hint, message, details } });
  }
});

function reply(message: MaterialiseReply): void {
  port.postMessage(message);
}
