import { OsrError } from "@osr/base/errors";
import { KIB, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { FAILOVER_ERRORS } from "./failover-errors.ts";
import type { FailoverPorts } from "./failover-ports.ts";

/** How a machine shows that it is up: it answers a request over TCP, from within its network. */
export type AnswerProbe = {
  readonly network: string;
  readonly address: string;
  readonly port: number;
  /** What is sent; for HTTP see `httpProbe`. */
  readonly request: Buffer;
  /** Whether this reply counts. */
  readonly accepts: (reply: Buffer) => boolean;
  /** Time from the start of the machine. */
  readonly timeoutMs: number;
};

const ATTEMPT_TIMEOUT_MS = 2 * SECOND_MS;
const PAUSE_MS = 200;
const REPLY_BYTES_MAX = 64 * KIB;

/** A probe for a successful answer (2xx or 3xx) to a GET over HTTP. */
export function httpProbe(
  target: Pick<AnswerProbe, "network" | "address" | "port" | "timeoutMs"> & {
    readonly path: string;
  },
): AnswerProbe {
  const { path, ...place } = target;
  const lines = [`GET ${path} HTTP/1.1`, `Host: ${place.address}`, "Connection: close", "", ""];
  return {
    ...place,
    request: Buffer.from(lines.join("\r\n"), "latin1"),
    accepts: (reply) => /^HTTP\/1\.[01] [23]\d\d /.test(reply.toString("latin1", 0, 16)),
  };
}

/**
 * Asks again and again until the machine answers. Throws REPLICA_FAILED as soon as it runs no more, REPLICA_SILENT when
 * the time is over.
 */
export async function waitForAnswer(
  replicaId: Uuid,
  probe: AnswerProbe,
  ports: Pick<FailoverPorts, "compute" | "clock" | "scheduler">,
  signal: AbortSignal,
): Promise<Buffer> {
  const { compute, clock, scheduler } = ports;
  const deadlineMs = clock.monotonicMs() + probe.timeoutMs;
  let last: unknown;
  for (;;) {
    signal.throwIfAborted();
    const remainingMs = deadlineMs - clock.monotonicMs();
    if (remainingMs <= 0) break;
    try {
      const timeoutMs = Math.min(ATTEMPT_TIMEOUT_MS, remainingMs);
      const options = { timeoutMs, replyBytesMax: REPLY_BYTES_MAX };
      const { network, address, port, request } = probe;
      const reply = await compute.probe(network, address, port, request, options);
      if (probe.accepts(reply)) return reply;
      last = undefined;
    } catch (error) {
      if (!(error instanceof OsrError) || !error.retryable) throw error;
      last = error;
    }
    const { state, reason } = await compute.status(replicaId);
    if (state !== "running")
      throw new OsrError(
        FAILOVER_ERRORS.REPLICA_FAILED,
        `the machine is ${state} before it answered${reason === undefined ? "" : `: ${reason}`}`,
      );
    await scheduler.sleep(PAUSE_MS, signal);
  }
  throw new OsrError(
    FAILOVER_ERRORS.REPLICA_SILENT,
    `the machine did not answer at ${probe.address}:${probe.port} within ${probe.timeoutMs} ms`,
    { cause: last },
  );
}
