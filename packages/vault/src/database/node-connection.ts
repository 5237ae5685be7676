import { Client } from "pg";

import type { Clock } from "@osr/base/clock";
import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";

import { VAULT_ERRORS } from "../vault-errors.ts";

/** Held on one connection for as long as this node works; PostgreSQL frees it when the node's connection ends, however it ends. */
const LEASE_LOCK = 0x6f73726c;
const RECONNECT_MS = 500;
/** A killed vault's connection is gone at once; one whose machine died takes as long as TCP does. */
const LEASE_WAIT_MS_MAX = 60 * SECOND_MS;
const LEASE_POLL_MS = 200;
/** Changes that are told by NOTIFY are looked for at this interval, too. */
const WAKE_MS = 2 * SECOND_MS;

export type Channel = "osr_job" | "osr_fabric";
const CHANNELS: readonly Channel[] = ["osr_job", "osr_fabric"];
type Listener = (payload: string) => void;

export type NodeConnectionOptions = {
  readonly url: string;
  readonly nodeId: Uuid;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: Log;
};

/**
 * The one connection that makes this process the vault of its database: it holds the lease and hears of what transactions have committed.
 * Where it breaks (PostgreSQL was restarted), it is made again; where another node has the lease by then, `lost` says so and the vault stops.
 */
export class NodeConnection {
  readonly #options: NodeConnectionOptions;
  readonly #listeners = new Map<Channel, Set<Listener>>();
  readonly #lost = Promise.withResolvers<never>();
  readonly #stopping = new AbortController();
  #client: Client | undefined;
  #leaseToken = 0;
  #reconnecting: Promise<void> = Promise.resolve();
  #ticker: Disposable | undefined;

  constructor(options: NodeConnectionOptions) {
    this.#options = options;
    this.#lost.promise.catch(() => undefined);
  }

  /** Grows with every node that takes the lease. */
  get leaseToken(): number {
    return this.#leaseToken;
  }

  /** Rejects with LEASE_LOST where another node has taken over. */
  get lost(): Promise<never> {
    return this.#lost.promise;
  }

  /** Waits for the lease and takes it. Throws LEASE_HELD. */
  async start(): Promise<void> {
    await this.#connect();
    this.#leaseToken = await this.#take();
    this.#tick();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#ticker?.[Symbol.dispose]();
    await this.#reconnecting;
    await this.#client?.end().catch(() => undefined);
  }

  /** Calls `listener` with the payload of each NOTIFY on the channel, and with "" now and then: look yourself. */
  listen(channel: Channel, listener: Listener): Disposable {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners.add(listener));
    return { [Symbol.dispose]: () => listeners.delete(listener) };
  }

  #tick(): void {
    this.#ticker = this.#options.scheduler.after(WAKE_MS, () => {
      if (this.#stopping.signal.aborted) return;
      for (const channel of CHANNELS) this.#tell(channel, "");
      this.#tick();
    });
  }

  #tell(channel: string, payload: string): void {
    const known = CHANNELS.find((one) => one === channel);
    if (known === undefined) return;
    for (const listener of this.#listeners.get(known) ?? []) listener(payload);
  }

  async #connect(): Promise<void> {
    const client = new Client({
      connectionString: this.#options.url,
      connectionTimeoutMillis: 10 * SECOND_MS,
      application_name: "osr-vault-node",
      keepAlive: true,
    });
    client.on("notification", ({ channel, payload }) => this.#tell(channel, payload ?? ""));
    client.on("error", (error) => this.#broken(client, error));
    client.on("end", () => this.#broken(client, undefined));
    await client.connect();
    this.#client = client;
    await this.#lock(client);
    for (const channel of CHANNELS) await client.query(`listen ${channel}`);
  }

  async #lock(client: Client): Promise<void> {
    const { scheduler, log } = this.#options;
    for (let waitedMs = 0; ; waitedMs += LEASE_POLL_MS) {
      const { rows } = await client.query<{ held: boolean }>(
        "select pg_try_advisory_lock($1) as held",
        [LEASE_LOCK],
      );
      if (rows[0]?.held === true) return;
      if (waitedMs === 0) log.warn("another vault works on this database; waiting for it to end");
      if (waitedMs >= LEASE_WAIT_MS_MAX)
        throw new OsrError(VAULT_ERRORS.LEASE_HELD, "another vault works on this database");
      await scheduler.sleep(LEASE_POLL_MS, this.#stopping.signal);
    }
  }

  async #take(): Promise<number> {
    const { nodeId, clock } = this.#options;
    const result = await this.#client?.query<{ token: string }>(
      `insert into lease (id, node_id, token, renewed_at) values (1, $1, 1, $2)
       on conflict (id) do update set node_id = $1, token = lease.token + 1, renewed_at = $2
       returning token`,
      [nodeId, clock.unixMs()],
    );
    return Number(result?.rows[0]?.token);
  }

  #broken(client: Client, error: Error | undefined): void {
    if (this.#stopping.signal.aborted || client !== this.#client) return;
    this.#client = undefined;
    this.#options.log.warn("the database connection broke", { reason: messageOf(error) });
    this.#reconnecting = this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { scheduler, log } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#connect();
        await this.#checkLease();
        log.info("the database answers again");
        for (const channel of CHANNELS) this.#tell(channel, "");
        return;
      } catch (error) {
        if (hasCode(error, VAULT_ERRORS.LEASE_LOST) || hasCode(error, VAULT_ERRORS.LEASE_HELD))
          return this.#lost.reject(error);
        log.debug("the database does not answer yet", { reason: messageOf(error) });
      }
      await scheduler.sleep(RECONNECT_MS, this.#stopping.signal).catch(() => undefined);
    }
  }

  async #checkLease(): Promise<void> {
    const result = await this.#client?.query<{ token: string }>("select token from lease");
    if (Number(result?.rows[0]?.token) !== this.#leaseToken)
      throw new OsrError(VAULT_ERRORS.LEASE_LOST, "another vault has taken the lease");
  }
}
