import type { Clock } from "@osr/base/clock";
import type { Scheduler } from "@osr/base/scheduler";
import { HOUR_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import {
  type DesiredFabric,
  FABRIC_WAIT_MS,
  ORDERS_MAX,
  type Order,
} from "@osr/contracts/fabric-protocol";

import type { VaultDatabase } from "../database/database.ts";
import { inTransaction } from "../database/transaction.ts";
import type { NodeConnection } from "../database/node-connection.ts";
import type { VaultContext } from "../vault-context.ts";
import type { FabricItems } from "./desired-items.ts";
import { unknownFabric } from "./unknown-fabric.ts";

/** Storage credentials live 72 hours at least; a fabric gets new ones when a third of that has gone. */
const GRANT_LEFT_MS_MIN = 48 * HOUR_MS;
const CHECK_MS = SECOND_MS;

type Ports = {
  readonly context: VaultContext;
  readonly items: FabricItems;
  readonly node: NodeConnection;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
};

/** Answers configuration servers that ask what is wished of them. */
export class DesiredFabrics {
  readonly #ports: Ports;
  /** Until when the storage credential is good that a fabric got last from this process. */
  readonly #grantedUntil = new Map<Uuid, number>();

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  /**
   * The wish as soon as its revision is not `after`; undefined after FABRIC_WAIT_MS, and as soon as who asks is not accepted any more: whoever asks again is
   * told why.
   */
  async next(
    fabricId: Uuid,
    after: number,
    asker: { readonly isAccepted: () => Promise<boolean>; readonly signal: AbortSignal },
  ): Promise<DesiredFabric | undefined> {
    const { signal } = asker;
    const { clock, scheduler, node } = this.#ports;
    const untilMs = clock.monotonicMs() + FABRIC_WAIT_MS;
    for (;;) {
      const told = new AbortController();
      using _ = node.listen("osr_fabric", (payload) => {
        if (payload === "" || payload === fabricId) told.abort();
      });
      const revision = await this.#revision(fabricId);
      if (!(await asker.isAccepted())) return undefined;
      if (revision !== after) return this.#wish(fabricId, revision, signal);
      const leftMs = untilMs - clock.monotonicMs();
      if (leftMs <= 0) return undefined;
      await scheduler
        .sleep(Math.min(leftMs, 10 * CHECK_MS), AbortSignal.any([told.signal, signal]))
        .catch(() => signal.throwIfAborted());
    }
  }

  async #revision(fabricId: Uuid): Promise<number> {
    const { context, clock } = this.#ports;
    const { database } = context;
    const grantedUntil = this.#grantedUntil.get(fabricId) ?? Number.POSITIVE_INFINITY;
    if (grantedUntil - clock.unixMs() < GRANT_LEFT_MS_MIN) {
      this.#grantedUntil.delete(fabricId);
      await inTransaction(database, (tx) => context.fabrics.changed(tx, fabricId));
    }
    const row = await database
      .selectFrom("fabric")
      .select("revision")
      .where("id", "=", fabricId)
      .executeTakeFirstOrThrow(unknownFabric);
    return row.revision;
  }

  /** Read after its revision: where something changes between, the configuration server has an old revision and asks again. */
  async #wish(fabricId: Uuid, revision: number, signal: AbortSignal): Promise<DesiredFabric> {
    const { context, items } = this.#ports;
    const { vault_id: vaultId } = await context.database
      .selectFrom("fabric")
      .select("vault_id")
      .where("id", "=", fabricId)
      .executeTakeFirstOrThrow(unknownFabric);
    const storage = await context.storageAccess.ingest(vaultId);
    this.#grantedUntil.set(fabricId, storage.expiresUnixMs);
    return {
      revision,
      vaultId,
      storage,
      items: await items.desiredItems(fabricId, signal),
      orders: await openOrders(context.database, fabricId),
    };
  }
}

async function openOrders(database: VaultDatabase, fabricId: Uuid): Promise<readonly Order[]> {
  const rows = await database
    .selectFrom("fabric_order")
    .select("document")
    .where("fabric_id", "=", fabricId)
    .where("ended_at", "is", null)
    .orderBy("ordered_at")
    .orderBy("id")
    .limit(ORDERS_MAX)
    .execute();
  // Written by FabricDesires.order.
  return rows.map(({ document }) => document as unknown as Order);
}
