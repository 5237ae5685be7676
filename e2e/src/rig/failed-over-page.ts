import { setTimeout as wait } from "node:timers/promises";

import { OsrError } from "@osr/base/errors";
import { MIB, SECOND_MS } from "@osr/base/units";
import type { ComputeProvider } from "@osr/compute/compute-provider";

import { HTTP_PORT } from "./debian-files.ts";
import { GUEST_ADDRESS } from "./machine.ts";
import { RIG_ERRORS } from "./rig-errors.ts";

const REPLY_BYTES_MAX = MIB;
const POLL_MS = 200;
/** One attempt to reach a machine that may not be up yet. */
const ATTEMPT_TIMEOUT_MS = 20 * SECOND_MS;

/** Text of a page of the Debian machine's HTTP service, asked from within the network that it was failed over to. */
export async function failedOverPage(
  compute: ComputeProvider,
  network: string,
  path: string,
  timeoutMs: number,
): Promise<string> {
  const request = Buffer.from(`GET ${path} HTTP/1.0\r\nHost: ${GUEST_ADDRESS}\r\n\r\n`);
  const options = { timeoutMs, replyBytesMax: REPLY_BYTES_MAX };
  const reply = await compute.probe(network, GUEST_ADDRESS, HTTP_PORT, request, options);
  const [, status, body] =
    /^HTTP\/1\.[01] (\d{3})[^]*?\r\n\r\n([^]*)$/.exec(reply.toString("utf8")) ?? [];
  if (status === "200") return body ?? "";
  throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `${path}: ${reply.subarray(0, 200).toString("utf8")}`);
}

/** The same, again and again until the machine answers. Throws RIG_TIMEOUT. */
export async function firstFailedOverPage(
  compute: ComputeProvider,
  network: string,
  path: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  const end = performance.now() + timeoutMs;
  for (let last: unknown; ; await wait(POLL_MS, undefined, { signal })) {
    try {
      return await failedOverPage(compute, network, path, ATTEMPT_TIMEOUT_MS);
    } catch (error) {
      last = error;
    }
    signal.throwIfAborted();
    if (performance.now() > end)
      throw new OsrError(RIG_ERRORS.RIG_TIMEOUT, `the machine does not answer ${path}`, {
        cause: last,
      });
  }
}
