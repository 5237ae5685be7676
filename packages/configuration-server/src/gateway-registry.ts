import { canonicalJson } from "@osr/base/canonical-json";
import type { Clock } from "@osr/base/clock";
import { formatDuration } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { type FabricGateway, fabricGatewayShape } from "@osr/contracts/fabric-protocol";
import type { GatewayFacts } from "@osr/contracts/replication-facts";

import { CONFIGURATION_SERVER_ERRORS } from "./configuration-server-errors.ts";
import { GatewayHealth, healthError } from "./gateway-health.ts";
import type { ChoosableServer } from "./process-server-choice.ts";
import type { SiteState } from "./site-state.ts";

type Entry = {
  gateway: FabricGateway;
  /** Of the last report; the start of the configuration server where there was none since. */
  seenMs: number;
  readonly health: GatewayHealth;
};

/** Process servers and master targets, as they report themselves. */
export class GatewayRegistry {
  readonly #state: SiteState;
  readonly #clock: Clock;
  readonly #silentMsMax: number;
  readonly #entries = new Map<Uuid, Entry>();
  readonly #startedMs: number;

  constructor(
    ports: { readonly state: SiteState; readonly clock: Clock },
    options: { readonly silentMsMax: number },
  ) {
    this.#state = ports.state;
    this.#clock = ports.clock;
    this.#silentMsMax = options.silentMsMax;
    this.#startedMs = ports.clock.monotonicMs();
    for (const gateway of this.#state.records("gateway", fabricGatewayShape))
      this.#entries.set(gateway.id, {
        gateway,
        seenMs: this.#startedMs,
        health: new GatewayHealth(),
      });
  }

  /** True where agents reach it under another address now, or it is new. */
  note(id: Uuid, role: FabricGateway["role"], facts: GatewayFacts): boolean {
    const before = this.#entries.get(id);
    const gateway = { id, role, lastSeenUnixMs: Math.floor(this.#clock.unixMs()), facts };
    const nowMs = this.#clock.monotonicMs();
    const health = before?.health ?? new GatewayHealth();
    health.note(facts, nowMs);
    this.#entries.set(id, { gateway, seenMs: nowMs, health });
    const isNews =
      before === undefined ||
      canonicalJson(before.gateway.facts.address) !== canonicalJson(facts.address);
    if (isNews) this.#state.putRecord("gateway", id, gateway);
    return isNews;
  }

  forget(id: Uuid): void {
    if (this.#entries.delete(id)) this.#state.dropRecord("gateway", id);
  }

  /** Where agents reach a process server. */
  address(id: Uuid): { readonly host: string; readonly port: number } | undefined {
    return this.#entries.get(id)?.gateway.facts.address;
  }

  /** Whether it may still come: it is not known, but the configuration server has not run long enough to have heard of it. */
  mayCome(id: Uuid): boolean {
    return (
      !this.#entries.has(id) && this.#clock.monotonicMs() - this.#startedMs < this.#silentMsMax
    );
  }

  choosable(): ChoosableServer[] {
    const [nowMs, unixMs] = [this.#clock.monotonicMs(), this.#clock.unixMs()];
    return [...this.#entries.values()]
      .filter(({ gateway }) => gateway.role === "process-server")
      .map(({ gateway, seenMs, health }) => ({
        id: gateway.id,
        isAlive: gateway.facts.address !== undefined && nowMs - seenMs < this.#silentMsMax,
        isCritical: health.judge(nowMs, unixMs).isCritical,
      }));
  }

  /** As the vault is told. */
  all(): readonly FabricGateway[] {
    const [nowMs, unixMs] = [this.#clock.monotonicMs(), this.#clock.unixMs()];
    return [...this.#entries.values()].map(({ gateway, seenMs, health }) => {
      const judged = [...health.judge(nowMs, unixMs).health];
      const silentMs = nowMs - seenMs;
      const { hostName } = gateway.facts;
      if (silentMs >= this.#silentMsMax)
        judged.push(
          healthError(
            CONFIGURATION_SERVER_ERRORS.GATEWAY_SILENT,
            `${hostName} was not heard of for ${formatDuration(silentMs)}`,
          ),
        );
      return { ...gateway, facts: { ...gateway.facts, health: judged.slice(0, 256) } };
    });
  }
}
