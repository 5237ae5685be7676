import type { Identity } from "@osr/certificates/site-authority";
import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import { retried } from "@osr/base/retry";
import type { Scheduler } from "@osr/base/scheduler";
import type { Service } from "@osr/base/service";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import { sql } from "kysely";

import { isDatabaseAway } from "../database/database-away.ts";
import { VAULT_ERRORS } from "../vault-errors.ts";
import { type SealPorts, checkNotReplaced, sealWaiting } from "./seal-chain.ts";
import type { Sealing } from "./sealing.ts";

/** What nobody waits for is sealed this soon. */
const SEAL_MS = 2 * SECOND_MS;
const REPLACED_CHECK_MS = MINUTE_MS;
const RETRY = { attemptsMax: Number.POSITIVE_INFINITY, delayFirstMs: 200, delayMaxMs: 30_000 };

export type SealerPorts = SealPorts & {
  readonly scheduler: Scheduler;
  /** Of the vault's certificates: sealed with every vault. */
  readonly authority: Identity;
};

/** Seals whatever changes, soon, and at once for who waits. Its run rejects where this vault was replaced, so that the older of two stops. */
export class Sealer implements Sealing, Service {
  readonly #ports: SealerPorts;
  readonly #stopping = new AbortController();
  readonly #replaced = Promise.withResolvers<never>();
  /** One object after the other. */
  #last: Promise<void> = Promise.resolve();
  #running: Promise<void> | undefined;

  constructor(ports: SealerPorts) {
    this.#ports = ports;
    this.#replaced.promise.catch(() => undefined);
  }

  sealed(vaultId: Uuid, signal: AbortSignal): Promise<void> {
    const both = AbortSignal.any([signal, this.#stopping.signal]);
    const attempt = (): Promise<void> => this.#seal(vaultId, both).catch(throwAsAway);
    return retried(attempt, RETRY, { ...this.#ports, signal: both });
  }

  /** Rejects with VAULT_REPLACED or VAULT_DATABASE_OLD. */
  run(): Promise<void> {
    this.#running ??= Promise.race([this.#go(), this.#replaced.promise]);
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("sealing is being stopped"));
    await this.#running?.catch(() => undefined);
    await this.#last;
  }

  async #go(): Promise<void> {
    const { signal } = this.#stopping;
    const { scheduler, clock } = this.#ports;
    let checkedMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      const isCheck = clock.monotonicMs() - checkedMs >= REPLACED_CHECK_MS;
      if (isCheck) checkedMs = clock.monotonicMs();
      try {
        if (isCheck) await this.#checkAll(signal);
        for (const vaultId of await this.#waiting()) await this.#seal(vaultId, signal);
      } catch (error) {
        if (!signal.aborted)
          this.#ports.log.warn("state could not be sealed; it is tried again", { error });
      }
      await scheduler.sleep(SEAL_MS, signal).catch(() => undefined);
    }
  }

  #seal(vaultId: Uuid, signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      signal.throwIfAborted();
      await this.#noteAuthority(vaultId);
      await sealWaiting(this.#ports, vaultId, signal);
    });
  }

  async #checkAll(signal: AbortSignal): Promise<void> {
    const heads = await this.#ports.database.selectFrom("seal_head").select("vault_id").execute();
    for (const { vault_id: vaultId } of heads)
      await this.#inTurn(() => checkNotReplaced(this.#ports, vaultId, signal));
  }

  async #waiting(): Promise<readonly Uuid[]> {
    const rows = await this.#ports.database
      .selectFrom("seal_document")
      .select("vault_id")
      .distinct()
      .where(sql<boolean>`sealed_seq is distinct from seq`)
      .execute();
    return rows.map(({ vault_id: vaultId }) => vaultId);
  }

  /** Keys of the authority are a document of every vault: whoever rebuilds one needs them. */
  async #noteAuthority(vaultId: Uuid): Promise<void> {
    const { certificatePem, privateKeyPem } = this.#ports.authority;
    const value = JSON.stringify({ certificatePem, privateKeyPem });
    await sql`
      insert into seal_document (vault_id, kind, id, value)
      select id, 'authority', 'vault', ${value}::jsonb from vault where id = ${vaultId}
      on conflict (vault_id, kind, id) do update set value = excluded.value, seq = nextval('seal_seq')
      where seal_document.value is distinct from excluded.value`.execute(this.#ports.database);
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const before = this.#last;
    const done = Promise.withResolvers<void>();
    this.#last = done.promise;
    await before;
    try {
      await work();
    } catch (error) {
      const isFinal =
        hasCode(error, VAULT_ERRORS.VAULT_REPLACED) ||
        hasCode(error, VAULT_ERRORS.VAULT_DATABASE_OLD);
      if (isFinal) this.#replaced.reject(error);
      throw error;
    } finally {
      done.resolve();
    }
  }
}

/** A database that is away comes back: whoever waits until something is sealed waits for that, too. */
function throwAsAway(error: unknown): never {
  if (!isDatabaseAway(error)) throw error;
  throw new OsrError(VAULT_ERRORS.DATABASE_AWAY, messageOf(error), { cause: error });
}
