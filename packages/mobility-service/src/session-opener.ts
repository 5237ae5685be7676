import { OsrError, hasCode, isRetryable } from "@osr/base/errors";
import { retryDelayMs } from "@osr/base/retry";
import { MINUTE_MS } from "@osr/base/units";
import {
  AGENT_PROTOCOL_VERSION,
  type MachineDescription,
  type SessionDisk,
} from "@osr/contracts/agent-protocol";
import { HTTPS_ERRORS } from "@osr/https/https-errors";

import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { ProcessServerAssignment } from "./process-server-assignment.ts";
import { RETRIES, ReplicationSession, type SessionPorts } from "./replication-session.ts";

/** Until a machine that may not replicate is asked for again whether it may. */
const REFUSED_RETRY_MS = MINUTE_MS;
/** What ends replication of this machine until somebody does something about it. */
const FINAL_REFUSALS = [MOBILITY_ERRORS.LOG_FENCED, MOBILITY_ERRORS.MACHINE_IS_REPLICA];

/** One side does not trust the other's certificate: another process server may have a better one, clock or list of revoked ones. */
const DISTRUST = [
  HTTPS_ERRORS.PEER_UNTRUSTED,
  HTTPS_ERRORS.CERTIFICATE_REQUIRED,
  HTTPS_ERRORS.CERTIFICATE_EXPIRED,
  HTTPS_ERRORS.CERTIFICATE_REVOKED,
  HTTPS_ERRORS.CERTIFICATE_UNTRUSTED,
];

export type SessionIdentity = {
  readonly agentVersion: string;
  readonly machine: MachineDescription;
};

export type OpenerPorts = Omit<SessionPorts, "processServer"> & {
  readonly processServers: ProcessServerAssignment;
};

/** Opens sessions of this machine, one after the other, each with a higher epoch. */
export class SessionOpener {
  readonly #ports: OpenerPorts;
  readonly #identity: SessionIdentity;
  #epoch = 0;
  #failure: unknown;

  constructor(ports: OpenerPorts, identity: SessionIdentity) {
    this.#ports = ports;
    this.#identity = identity;
  }

  /** Why there is no session at the moment: what the last attempt failed with. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Present while the process server says that this machine may not replicate: LOG_FENCED, MACHINE_IS_REPLICA. */
  get refusal(): OsrError | undefined {
    const failure = this.#failure;
    return FINAL_REFUSALS.some((info) => hasCode(failure, info))
      ? (failure as OsrError)
      : undefined;
  }

  /** Present while one side does not trust the other's certificate. */
  get distrust(): OsrError | undefined {
    return isDistrust(this.#failure) ? this.#failure : undefined;
  }

  /** Opens one for `disks`; tries until it succeeds. Rejects only with the signal's reason. */
  async open(disks: readonly SessionDisk[], signal: AbortSignal): Promise<ReplicationSession> {
    const { processServers, clock, scheduler, randomness, log } = this.#ports;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      this.#epoch = Math.max(this.#epoch + 1, Math.floor(clock.unixMs()));
      const request = {
        protocol: AGENT_PROTOCOL_VERSION,
        epoch: this.#epoch,
        ...this.#identity,
        disks,
      };
      const processServer = processServers.current;
      try {
        const granted = await processServer.client.openSession(request, signal);
        this.#failure = undefined;
        processServers.reached();
        const ports = { ...this.#ports, processServer };
        return new ReplicationSession(ports, request.epoch, granted, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (isRetryable(error) || isDistrust(error)) processServers.unreached();
        else processServers.reached();
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
        const delayMs =
          this.refusal === undefined
            ? retryDelayMs(RETRIES, attempt + 1, randomness)
            : REFUSED_RETRY_MS;
        await scheduler.sleep(delayMs, signal);
      }
    }
  }
}

function isDistrust(error: unknown): error is OsrError {
  return DISTRUST.some((info) => hasCode(error, info));
}

function codeOf(error: unknown): string | undefined {
  return error instanceof OsrError ? error.code : undefined;
}
