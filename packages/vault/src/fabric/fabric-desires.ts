import { sql } from "kysely";

import type { Clock } from "@osr/base/clock";
import { OsrError } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";
import { isUuid, type Uuid } from "@osr/base/uuid";
import type { HealthError } from "@osr/contracts/agent-protocol";
import type { Order, OrderResult } from "@osr/contracts/fabric-protocol";

import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import { inTransaction } from "../database/transaction.ts";
import type { NodeConnection } from "../database/node-connection.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import type { FabricDesires, KnownMachine } from "./desired-items.ts";

const RESULT_POLL_MS = SECOND_MS;

/** Desires as rows: the revision grows in the transaction that changes what is wished. */
export class StoredFabricDesires implements FabricDesires {
  readonly #database: VaultDatabase;
  readonly #node: Pick<NodeConnection, "listen">;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;

  constructor(options: {
    readonly database: VaultDatabase;
    readonly node: Pick<NodeConnection, "listen">;
    readonly clock: Clock;
    readonly scheduler: Scheduler;
  }) {
    this.#database = options.database;
    this.#node = options.node;
    this.#clock = options.clock;
    this.#scheduler = options.scheduler;
  }

  async changed(tx: VaultTransaction, fabricId: Uuid): Promise<void> {
    await tx
      .updateTable("fabric")
      .set((row) => ({ revision: row("revision", "+", 1) }))
      .where("id", "=", fabricId)
      .execute();
    await notifyFabric(tx, fabricId);
  }

  async order(tx: VaultTransaction, fabricId: Uuid, order: Order): Promise<void> {
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto("fabric_order")
      .values({
        id: order.id,
        fabric_id: fabricId,
        document: JSON.stringify(order),
        state: "waiting",
        error: null,
        ordered_at: this.#clock.unixMs(),
        ended_at: null,
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows !== 0n) await this.changed(tx, fabricId);
  }

  async result(orderId: Uuid, timeoutMs: number, signal: AbortSignal): Promise<OrderResult> {
    const deadlineMs = this.#clock.monotonicMs() + timeoutMs;
    for (;;) {
      const waiting = new AbortController();
      using _ = this.#node.listen("osr_fabric", () => waiting.abort());
      const result = await this.#ended(orderId);
      if (result !== undefined) return result;
      if (this.#clock.monotonicMs() >= deadlineMs) {
        await this.#withdraw(orderId);
        continue;
      }
      await this.#scheduler
        .sleep(RESULT_POLL_MS, AbortSignal.any([waiting.signal, signal]))
        .catch(() => signal.throwIfAborted());
    }
  }

  async machine(
    database: VaultDatabase,
    fabricId: Uuid,
    machineId: Uuid,
  ): Promise<KnownMachine | undefined> {
    const row = await database
      .selectFrom("fabric_machine")
      .select(["friendly_name", "address", "operating_system", "document"])
      .where("fabric_id", "=", fabricId)
      .where("machine_id", "=", machineId)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    return {
      machineId,
      friendlyName: row.friendly_name,
      address: row.address,
      operatingSystem: row.operating_system,
      document: row.document,
    };
  }

  /** Throws ORDER_TIMEOUT where it was withdrawn, also by a process before this one. */
  async #ended(orderId: Uuid): Promise<OrderResult | undefined> {
    const row = await this.#database
      .selectFrom("fabric_order")
      .select(["state", "error"])
      .where("id", "=", orderId)
      .executeTakeFirst();
    if (row?.state === "withdrawn")
      throw new OsrError(
        VAULT_ERRORS.ORDER_TIMEOUT,
        "the configuration server did not carry out the order in time",
      );
    if (row?.state !== "succeeded" && row?.state !== "failed") return undefined;
    // Checked against its shape when it arrived.
    const error = row.error as unknown as HealthError | null;
    return { orderId, state: row.state, ...(error === null ? {} : { error }) };
  }

  /** What has ended meanwhile stays as it ended. */
  async #withdraw(orderId: Uuid): Promise<void> {
    await inTransaction(this.#database, async (tx) => {
      const row = await tx
        .updateTable("fabric_order")
        .set({ state: "withdrawn", ended_at: this.#clock.unixMs() })
        .where("id", "=", orderId)
        .where("ended_at", "is", null)
        .returning("fabric_id")
        .executeTakeFirst();
      if (row !== undefined) await this.changed(tx, row.fabric_id);
    });
  }
}

/** Wakes those who wait for the fabric when the transaction commits. */
export async function notifyFabric(tx: VaultTransaction, fabricId: Uuid): Promise<void> {
  if (!isUuid(fabricId)) throw new TypeError("a fabric's id is a UUID");
  await sql`select pg_notify('osr_fabric', ${fabricId})`.execute(tx);
}
