import type { ErrorInfo } from "@osr/base/errors";
import { HOUR_MS, MINUTE_MS } from "@osr/base/units";
import type { HealthError } from "@osr/contracts/agent-protocol";
import type { GatewayFacts } from "@osr/contracts/replication-facts";

import { CONFIGURATION_SERVER_ERRORS as ERRORS } from "./configuration-server-errors.ts";

/** A signal must be beyond its threshold for so long, as in Azure Site Recovery. */
const LASTING_MS = 15 * MINUTE_MS;
const CERTIFICATE_EXPIRES_MS = 5 * 24 * HOUR_MS;
/** What a process server says of itself that makes it no place for new machines. */
const CRITICAL_CODES: ReadonlySet<string> = new Set([
  "CACHE_FREE_CRITICAL",
  "CACHE_THROTTLED",
  "DRAIN_TIME_CRITICAL",
  // It cannot write: it could not even begin with the disks of a new machine.
  "STORE_UNAVAILABLE",
  "STORE_FORBIDDEN",
  "STORE_MISSING",
  "STORE_FULL",
  "UPLOAD_STALLED",
]);

type Signal = {
  readonly name: string;
  readonly isBeyond: (facts: GatewayFacts) => boolean;
  readonly info: ErrorInfo;
  readonly isCritical: boolean;
  readonly message: (facts: GatewayFacts) => string;
};

const cpu = ({ cpuPermille }: GatewayFacts): string =>
  `${cpuPermille / 10} % of the CPU are in use`;
const memory = ({ memoryPermille }: GatewayFacts): string =>
  `${memoryPermille / 10} % of the memory are in use`;
const cache = ({ cacheFreePermille }: GatewayFacts): string =>
  `${cacheFreePermille / 10} % of the cache are free`;

/** Thresholds of Azure Site Recovery; the worst of a kind is reported. */
const SIGNALS: readonly (readonly [critical: Signal, warning: Signal])[] = [
  [
    signal("cpu", (facts) => facts.cpuPermille > 950, ERRORS.CPU_CRITICAL, true, cpu),
    signal("cpu", (facts) => facts.cpuPermille > 800, ERRORS.CPU_WARNING, false, cpu),
  ],
  [
    signal("memory", (facts) => facts.memoryPermille > 950, ERRORS.MEMORY_CRITICAL, true, memory),
    signal("memory", (facts) => facts.memoryPermille > 800, ERRORS.MEMORY_WARNING, false, memory),
  ],
  [
    signal("cache", (facts) => facts.cacheFreePermille < 250, ERRORS.CACHE_CRITICAL, true, cache),
    signal("cache", (facts) => facts.cacheFreePermille < 300, ERRORS.CACHE_WARNING, false, cache),
  ],
];

export type GatewayJudgement = {
  readonly isCritical: boolean;
  /** What the gateway says itself, and what is seen from here. */
  readonly health: readonly HealthError[];
};

/** Watches what one gateway reports. */
export class GatewayHealth {
  /** Since when each signal has been beyond its threshold, by its code. */
  readonly #sinceMs = new Map<string, number>();
  #facts: GatewayFacts | undefined;

  note(facts: GatewayFacts, nowMs: number): void {
    this.#facts = facts;
    for (const { isBeyond, info } of SIGNALS.flat()) {
      if (!isBeyond(facts)) this.#sinceMs.delete(info.code);
      else if (!this.#sinceMs.has(info.code)) this.#sinceMs.set(info.code, nowMs);
    }
  }

  judge(nowMs: number, unixMs: number): GatewayJudgement {
    const facts = this.#facts;
    if (facts === undefined) return { isCritical: false, health: [] };
    const lasting = SIGNALS.flatMap((levels) =>
      levels
        .filter(({ info }) => nowMs - (this.#sinceMs.get(info.code) ?? nowMs) >= LASTING_MS)
        .slice(0, 1),
    );
    const said = new Set(facts.health.map(({ code }) => code));
    const health = lasting
      .filter(({ info }) => !said.has(info.code))
      .map(({ info, message }) => healthError(info, message(facts)));
    if (facts.certificateExpiresUnixMs - unixMs < CERTIFICATE_EXPIRES_MS)
      health.push(healthError(ERRORS.CERTIFICATE_EXPIRES, `${facts.hostName}: its certificate`));
    const isCritical =
      lasting.some((found) => found.isCritical) ||
      facts.health.some(({ code }) => CRITICAL_CODES.has(code));
    return { isCritical, health: [...facts.health, ...health] };
  }
}

export function healthError({ code, hint }: ErrorInfo, message: string): HealthError {
  return { code, message: message.slice(0, 1024), hint };
}

function signal(
  name: string,
  isBeyond: Signal["isBeyond"],
  info: ErrorInfo,
  isCritical: boolean,
  message: Signal["message"],
): Signal {
  return { name, isBeyond, info, isCritical, message };
}
