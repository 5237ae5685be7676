import { OsrError } from "@osr/base/errors";
import type { AskedBy } from "@osr/contracts/replica-host";

import { REPLICA_ERRORS } from "./replica-errors.ts";

/** Lets nobody pass who is older than the newest one seen. */
export class LeaseGate {
  #highest: number;
  readonly #keep: (highest: number) => void;

  /** `keep` is called with each new highest token before anybody passes with it: a successor begins with it. */
  constructor(highest = 0, keep: (highest: number) => void = () => undefined) {
    this.#highest = highest;
    this.#keep = keep;
  }

  /** Throws LEASE_STALE. */
  pass({ leaseToken, jobId }: AskedBy): void {
    if (leaseToken < this.#highest)
      throw new OsrError(
        REPLICA_ERRORS.LEASE_STALE,
        `job ${jobId} asks with lease ${leaseToken}, a vault with lease ${this.#highest} has asked before`,
      );
    if (leaseToken > this.#highest) this.#keep(leaseToken);
    this.#highest = leaseToken;
  }
}
