import { sql } from "kysely";

import { isoTime } from "@osr/base/platform/iso-time";
import type { Uuid } from "@osr/base/uuid";

import type { VaultTransaction } from "../database/database.ts";
import { inTransaction } from "../database/transaction.ts";
import { recordEvent } from "../events/record-event.ts";
import { HEARTBEAT_MISSING_MS } from "../resources/fabric-body.ts";
import type { VaultContext } from "../vault-context.ts";

type Ports = Pick<VaultContext, "database" | "clock" | "randomness">;

type Subject = {
  readonly vault_id: Uuid;
  readonly fabric_id: Uuid;
  readonly kind: "configuration-server" | "process-server" | "master-target" | "mobility-service";
  readonly id: Uuid;
  readonly name: string;
  readonly seen: number;
  readonly is_silent: boolean;
};

const WHO: Readonly<Record<Subject["kind"], string>> = {
  "configuration-server": "The configuration server of",
  "process-server": "The process server",
  "master-target": "The master target",
  "mobility-service": "The mobility service of",
};

/**
 * Records the loss of each heartbeat, and its return, as an event; what is silent at the moment is health. While a fabric is
 * silent nothing is known of what is behind it, so nothing is said of that.
 */
export async function watchHeartbeats({ database, ...ports }: Ports): Promise<void> {
  const now = ports.clock.unixMs();
  await inTransaction(database, async (tx) => {
    for (const subject of await subjects(tx, now)) {
      const isLost = subject.seen <= now - HEARTBEAT_MISSING_MS;
      if (isLost !== subject.is_silent && (await note(tx, subject, isLost, now)))
        await recordEvent(tx, eventOf(subject, isLost), ports);
    }
  });
}

async function subjects(tx: VaultTransaction, now: number): Promise<readonly Subject[]> {
  const heardOf = now - HEARTBEAT_MISSING_MS;
  const { rows } = await sql<Subject>`
    with subject as (
      select vault_id, id as fabric_id, 'configuration-server' as kind, id, name,
        coalesce(last_heartbeat_at, registered_at) as seen
      from fabric
      union all
      select fabric.vault_id, fabric.id, gateway.role, gateway.id, gateway.facts ->> 'hostName', gateway.last_seen_at
      from fabric_gateway gateway join fabric on fabric.id = gateway.fabric_id and fabric.last_heartbeat_at > ${heardOf}
      union all
      select fabric.vault_id, fabric.id, 'mobility-service', item.machine_id, item.friendly_name,
        coalesce(machine.last_seen_at, machine.reported_at, item.created_at)
      from protected_item item join fabric on fabric.id = item.fabric_id and fabric.last_heartbeat_at > ${heardOf}
      left join fabric_machine machine on machine.fabric_id = item.fabric_id and machine.machine_id = item.machine_id
      where item.phase = 'protected'
    )
    select subject.*, silence.since is not null as is_silent
    from subject left join silence using (fabric_id, kind, id)
    where (silence.since is not null) <> (seen <= ${heardOf})`.execute(tx);
  return rows;
}

/** False where another vault process was faster. */
async function note(
  tx: VaultTransaction,
  { fabric_id, kind, id }: Subject,
  isLost: boolean,
  now: number,
): Promise<boolean> {
  if (isLost) {
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto("silence")
      .values({ fabric_id, kind, id, since: now })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }
  const { numDeletedRows } = await tx
    .deleteFrom("silence")
    .where("fabric_id", "=", fabric_id)
    .where("kind", "=", kind)
    .where("id", "=", id)
    .executeTakeFirst();
  return numDeletedRows === 1n;
}

function eventOf(subject: Subject, isLost: boolean): Parameters<typeof recordEvent>[1] {
  const { kind, name } = subject;
  const common = {
    vaultId: subject.vault_id,
    fabricId: subject.fabric_id,
    eventType: kind === "mobility-service" ? "AgentHealth" : "ServerHealth",
    affected: { id: subject.id, name },
  };
  const who = `${WHO[kind]} ${name}`;
  if (!isLost)
    return {
      ...common,
      code: "HEARTBEAT_BACK",
      severity: "Info",
      description: `${who} is heard of again.`,
    };
  return {
    ...common,
    code: "HEARTBEAT_LOST",
    severity: "Error",
    description: `${who} has not been heard of since ${isoTime(subject.seen)}.`,
    details: {
      possibleCauses: "It is stopped, or it does not reach the server that it reports to.",
      recommendedAction: "Check that it runs and that its way to that server is open.",
    },
  };
}
