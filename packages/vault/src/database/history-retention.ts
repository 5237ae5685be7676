import type { Clock } from "@osr/base/clock";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { HOUR_MS } from "@osr/base/units";

import type { VaultDatabase } from "./database.ts";

const DAY_MS = 24 * HOUR_MS;
const JOBS_MS = 90 * DAY_MS;
const EVENTS_MS = 90 * DAY_MS;
const AUDIT_MS = 2 * 365 * DAY_MS;
const ORDERS_MS = 7 * DAY_MS;
const CREDENTIALS_MS = 30 * DAY_MS;

type Ports = {
  readonly database: VaultDatabase;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/** Forgets history that nobody asks for any more, once a day, so that the database does not grow for ever. */
export class HistoryRetention implements Disposable {
  readonly #ports: Ports;
  #timer: Disposable | undefined;

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  start(): void {
    this.#timer = this.#ports.scheduler.after(DAY_MS, () => {
      this.#forget().catch((error: unknown) =>
        this.#ports.log.warn("old history could not be deleted", { error }),
      );
      this.start();
    });
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }

  async #forget(): Promise<void> {
    const { database, clock } = this.#ports;
    await forgetHistory(database, clock.unixMs());
  }
}

/** Deletes what is older than its time at `nowMs`. Open jobs, orders and credentials stay however old they are. */
export async function forgetHistory(database: VaultDatabase, nowMs: number): Promise<void> {
  await database
    .deleteFrom("job")
    .where("ended_at", "<", nowMs - JOBS_MS)
    .execute();
  await database
    .deleteFrom("event")
    .where("occurred_at", "<", nowMs - EVENTS_MS)
    .execute();
  await database
    .deleteFrom("audit")
    .where("at", "<", nowMs - AUDIT_MS)
    .execute();
  await database
    .deleteFrom("fabric_order")
    .where("ended_at", "<", nowMs - ORDERS_MS)
    .execute();
  await database
    .deleteFrom("fabric_credential")
    .where("expires_at", "<", nowMs - CREDENTIALS_MS)
    .execute();
}
