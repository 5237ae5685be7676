import { OsrError } from "@osr/base/errors";

import { REPLICA_ERRORS } from "./replica-errors.ts";
import type { AskedBy } from "@osr/contracts/replica-host";

/** Lets nobody pass who is older than the newest one seen. */
export class LeaseGate {
  #highest = 0;

  /** Throws LEASE_STALE. */
  pass({ leaseToken, jobId }: AskedBy): void {
    if (leaseToken < this.#highest)
      throw new OsrError(
        REPLICA_ERRORS.LEASE_STALE,
        `job ${jobId} asks with lease ${leaseToken}, a vault with lease ${this.#highest} has asked before`,
      );
    this.#highest = leaseToken;
  }
}
