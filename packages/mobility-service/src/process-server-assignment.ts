import { must } from "@osr/base/assert";
import type { Clock } from "@osr/base/clock";
import { MINUTE_MS } from "@osr/base/units";

import type { ProcessServerClient } from "./process-server-client.ts";

/** A process server that was not reached for so long is given up for the next one. */
export const UNREACHABLE_MS_MAX = MINUTE_MS;

/** A process server as its agents know it. */
export type AssignedProcessServer = {
  /** For people: `192.0.2.10:9443`. */
  readonly address: string;
  readonly client: ProcessServerClient;
};

/**
 * Says which process server the machine uses. The law: `current` may change at any time, and is the same object as long as it
 * is the same process server; sessions are opened with it, and a session with another one is given up within a second or so.
 * Moving costs what was never vaulted, nothing else. Whoever uses it tells of every second in which the current one was
 * reached or was not.
 */
export interface ProcessServerAssignment {
  readonly current: AssignedProcessServer;
  reached(): void;
  unreached(): void;
}

/**
 * The process servers of the configuration, in its order: the first one, until it has not been reached for
 * UNREACHABLE_MS_MAX, then the next, after the last one the first. It stays with one that it reaches.
 */
export class ConfiguredProcessServers implements ProcessServerAssignment {
  readonly #servers: readonly AssignedProcessServer[];
  readonly #clock: Clock;
  #index = 0;
  #unreachedSinceMs: number | undefined;

  constructor(servers: readonly AssignedProcessServer[], clock: Clock) {
    this.#servers = servers;
    this.#clock = clock;
  }

  get current(): AssignedProcessServer {
    return must(this.#servers[this.#index], "there is a process server");
  }

  reached(): void {
    this.#unreachedSinceMs = undefined;
  }

  unreached(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#unreachedSinceMs ??= nowMs;
    if (nowMs - this.#unreachedSinceMs < UNREACHABLE_MS_MAX) return;
    this.#index = (this.#index + 1) % this.#servers.length;
    this.#unreachedSinceMs = undefined;
  }
}

/** The process server that the configuration server names, whether it is reached or not: who moves machines knows all of them. */
export class NamedProcessServer implements ProcessServerAssignment {
  #current: AssignedProcessServer;

  constructor(first: AssignedProcessServer) {
    this.#current = first;
  }

  get current(): AssignedProcessServer {
    return this.#current;
  }

  replace(next: AssignedProcessServer): void {
    this.#current = next;
  }

  reached(): void {
    // Nothing depends on it.
  }

  unreached(): void {
    // As above.
  }
}
