import { OsrError, isRetryable } from "@osr/base/errors";
import { retryDelayMs } from "@osr/base/retry";
import {
  AGENT_PROTOCOL_VERSION,
  type MachineDescription,
  type SessionDisk,
} from "@osr/contracts/agent-protocol";

import { RETRIES, ReplicationSession, type SessionPorts } from "./replication-session.ts";

export type SessionIdentity = {
  readonly agentVersion: string;
  readonly machine: MachineDescription;
  readonly disks: readonly SessionDisk[];
};

/** Opens sessions of this machine, one after the other, each with a higher epoch. */
export class SessionOpener {
  readonly #ports: SessionPorts;
  readonly #identity: SessionIdentity;
  #epoch = 0;
  #failure: unknown;

  constructor(ports: SessionPorts, identity: SessionIdentity) {
    this.#ports = ports;
    this.#identity = identity;
  }

  /** Why there is no session at the moment: what the last attempt failed with. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Tries until it succeeds. Rejects only with the signal's reason. */
  async open(signal: AbortSignal): Promise<ReplicationSession> {
    const { client, clock, scheduler, randomness, log } = this.#ports;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      this.#epoch = Math.max(this.#epoch + 1, Math.floor(clock.unixMs()));
      const request = {
        protocol: AGENT_PROTOCOL_VERSION,
        epoch: this.#epoch,
        ...this.#identity,
      };
      try {
        const granted = await client.openSession(request, signal);
        this.#failure = undefined;
        return new ReplicationSession(this.#ports, request.epoch, granted, signal);
      } catch (error) {
        signal.throwIfAborted();
        const { newestEpoch }: { newestEpoch?: unknown } =
          error instanceof OsrError ? error.details : {};
        if (typeof newestEpoch === "number" && newestEpoch >= this.#epoch) {
          this.#epoch = newestEpoch;
        } else {
          // Once for each reason, not once for each attempt.
          if (codeOf(error) !== codeOf(this.#failure))
            log[isRetryable(error) ? "warn" : "error"]("no session with the process server", {
              error,
            });
          this.#failure = error;
        }
        await scheduler.sleep(retryDelayMs(RETRIES, attempt + 1, randomness), signal);
      }
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof OsrError ? error.code : undefined;
}
