import { parentPort } from "node:worker_threads";

import { must } from "@osr/base/assert";
import { messageOf } from "@osr/base/errors";
import { freeBuffer } from "@osr/base/free-buffer";

import { type EncodeJob, encodeBatch } from "./encode-batch.ts";
import type { EncoderReply, EncoderRequest } from "./worker-encoder.ts";

/** Main file of an encoder thread: answers every request, in order. */
const port = must(parentPort, "runs in a worker thread");

port.on("message", ({ jobNo, job }: EncoderRequest) => {
  const reply = answer(jobNo, job);
  port.postMessage(reply, "encoded" in reply ? [reply.encoded.bytes.buffer] : []);
});

function answer(jobNo: number, job: EncodeJob): EncoderReply {
  try {
    return { jobNo, encoded: encodeBatch(job) };
  } catch (error) {
    return { jobNo, failure: messageOf(error) };
  } finally {
    freeBuffer(job.body);
  }
}
