import { Counter, Gauge, Histogram, Registry } from "prom-client";

import type { VaultDatabase } from "./database/database.ts";

/** Seconds; the aims are 15 ms for an item and 50 ms for a page. */
const REQUEST_BUCKETS = [0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5];

/** What the vault counts, for Prometheus. Names of protected machines are no labels. */
export class VaultMetrics {
  readonly #registry = new Registry();
  readonly #seconds: Histogram<"route" | "method">;
  readonly #requests: Counter<"route" | "method" | "status">;

  constructor(database: VaultDatabase) {
    const registers = [this.#registry];
    this.#seconds = new Histogram({
      name: "osr_vault_request_seconds",
      help: "Time of a management request until its answer",
      labelNames: ["route", "method"],
      buckets: REQUEST_BUCKETS,
      registers,
    });
    this.#requests = new Counter({
      name: "osr_vault_requests_total",
      help: "Management requests by their answer",
      labelNames: ["route", "method", "status"],
      registers,
    });
    const jobs = new Gauge({
      name: "osr_vault_jobs",
      help: "Jobs by state",
      labelNames: ["state"],
      registers,
      collect: async () => {
        const rows = await database
          .selectFrom("job")
          .select((row) => ["state", row.fn.countAll<number>().as("count")])
          .groupBy("state")
          .execute();
        jobs.reset();
        for (const { state, count } of rows) jobs.set({ state }, count);
      },
    });
    const heartbeat = new Gauge({
      name: "osr_vault_fabric_heartbeat_timestamp_seconds",
      help: "When each fabric reported last",
      labelNames: ["fabric"],
      registers,
      collect: async () => {
        const rows = await database
          .selectFrom("fabric")
          .select(["id", "last_heartbeat_at"])
          .execute();
        heartbeat.reset();
        for (const { id, last_heartbeat_at: at } of rows)
          heartbeat.set({ fabric: id }, (at ?? 0) / 1000);
      },
    });
  }

  observeRequest(route: string, method: string, status: number, ms: number): void {
    this.#seconds.observe({ route, method }, ms / 1000);
    this.#requests.inc({ route, method, status: String(status) });
  }

  async exposition(): Promise<{ readonly type: string; readonly text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }
}
