import { sql } from "kysely";

import type { Uuid } from "@osr/base/uuid";
import type {
  FabricGateway,
  FabricMachine,
  FabricStatus,
  FabricStatusReply,
  OrderResult,
} from "@osr/contracts/fabric-protocol";

import type { VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import type { FabricItems } from "./desired-items.ts";
import { CLOCK_SKEW_MS_MAX } from "../resources/fabric-body.ts";
import { unknownFabric } from "./unknown-fabric.ts";

/**
 * Takes a report of a fabric in one transaction: machines, gateways, results of orders, and whatever the items make of it. Two statements for all
 * machines, however many there are.
 */
export async function takeStatus(
  tx: VaultTransaction,
  fabricId: Uuid,
  reported: FabricStatus,
  ports: { readonly context: VaultContext; readonly items: FabricItems },
): Promise<FabricStatusReply> {
  const now = ports.context.clock.unixMs();
  const status = byOwnClock(reported, now);
  // Items before their fabric, as jobs lock them.
  await ports.items.statusArrived(tx, fabricId, status);
  const { wants_whole: wantedWhole } = await tx
    .selectFrom("fabric")
    .select("wants_whole")
    .where("id", "=", fabricId)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow(unknownFabric);
  await storeMachines(tx, fabricId, status, now);
  await storeGateways(tx, fabricId, status.gateways);
  const wantsWhole = wantedWhole && !status.isWhole;
  const { machines: _machines, gateways: _gateways, orderResults: _results, ...rest } = status;
  await tx
    .updateTable("fabric")
    .set({
      status: JSON.stringify(rest),
      host_name: status.hostName,
      version: status.version,
      applied_revision: status.appliedRevision,
      last_heartbeat_at: now,
      wants_whole: wantsWhole,
    })
    .where("id", "=", fabricId)
    .execute();
  if (await storeResults(tx, fabricId, status.orderResults, now))
    await ports.context.fabrics.changed(tx, fabricId);
  return { wantsWhole };
}

/**
 * When machines and gateways were heard of, by the vault's clock where the configuration server's is far from it: it knows how long ago that was, whatever
 * time it takes it to be. Nobody is silent, or well, because of a clock.
 */
function byOwnClock(status: FabricStatus, now: number): FabricStatus {
  if (Math.abs(now - status.unixMs) <= CLOCK_SKEW_MS_MAX) return status;
  const own = (unixMs: number): number => Math.max(0, now - Math.max(0, status.unixMs - unixMs));
  return {
    ...status,
    machines: status.machines.map(({ lastSeenUnixMs: seen, ...machine }) => ({
      ...machine,
      ...(seen === undefined ? {} : { lastSeenUnixMs: own(seen) }),
    })),
    gateways: status.gateways.map((gateway) => ({
      ...gateway,
      lastSeenUnixMs: own(gateway.lastSeenUnixMs),
    })),
  };
}

async function storeMachines(
  tx: VaultTransaction,
  fabricId: Uuid,
  status: FabricStatus,
  now: number,
): Promise<void> {
  const machines = status.machines.filter(({ isGone }) => isGone !== true);
  await storeEach(tx, fabricId, machines, now);
  const gone = status.machines.filter(({ isGone }) => isGone === true);
  const goneIds = JSON.stringify(gone.map(({ machineId }) => machineId));
  const keptIds = JSON.stringify(machines.map(({ machineId }) => machineId));
  // A machine with replication is kept as gone: its item still says what is known of it.
  await sql`
    update fabric_machine set is_gone = true
    where fabric_id = ${fabricId} and not is_gone and (
      machine_id in (select value::uuid from jsonb_array_elements_text(${goneIds}::jsonb))
      or (${status.isWhole} and machine_id not in
        (select value::uuid from jsonb_array_elements_text(${keptIds}::jsonb))))`.execute(tx);
}

/** A configuration server that was started again has not heard of its machines yet; when they were heard of last is known here. */
async function storeEach(
  tx: VaultTransaction,
  fabricId: Uuid,
  machines: readonly FabricMachine[],
  now: number,
): Promise<void> {
  if (machines.length === 0) return;
  await sql`
    insert into fabric_machine (fabric_id, machine_id, friendly_name, address, operating_system,
      document, last_seen_at, is_gone, reported_at)
    select ${fabricId}, (m ->> 'machineId')::uuid, m ->> 'friendlyName', m ->> 'address', m ->> 'operatingSystem',
      m, (m ->> 'lastSeenUnixMs')::bigint, false, ${now}
    from jsonb_array_elements(${JSON.stringify(uniqueMachines(machines))}::jsonb) as m
    on conflict (fabric_id, machine_id) do update set
      friendly_name = excluded.friendly_name, address = excluded.address,
      operating_system = excluded.operating_system,
      document = case when excluded.last_seen_at is null and fabric_machine.last_seen_at is not null
        then jsonb_set(excluded.document, '{lastSeenUnixMs}', to_jsonb(fabric_machine.last_seen_at))
        else excluded.document end,
      last_seen_at = coalesce(excluded.last_seen_at, fabric_machine.last_seen_at), is_gone = false, reported_at = excluded.reported_at`.execute(
    tx,
  );
}

/** A statement may touch a row only once; the last of two reports of a machine counts. */
function uniqueMachines(machines: readonly FabricMachine[]): readonly FabricMachine[] {
  return [...new Map(machines.map((machine) => [machine.machineId, machine] as const)).values()];
}

/** Every report names all gateways. */
async function storeGateways(
  tx: VaultTransaction,
  fabricId: Uuid,
  gateways: readonly FabricGateway[],
): Promise<void> {
  await tx.deleteFrom("fabric_gateway").where("fabric_id", "=", fabricId).execute();
  const unique = new Map(gateways.map((one) => [`${one.role}/${one.id}`, one] as const));
  if (unique.size === 0) return;
  const rows = [...unique.values()].map(({ id, role, facts, lastSeenUnixMs }) => ({
    fabric_id: fabricId,
    id,
    role,
    facts: JSON.stringify(facts),
    last_seen_at: lastSeenUnixMs,
  }));
  await tx.insertInto("fabric_gateway").values(rows).execute();
}

/** True where an order has ended by this report. Results of orders that have ended before change nothing. */
async function storeResults(
  tx: VaultTransaction,
  fabricId: Uuid,
  results: readonly OrderResult[],
  now: number,
): Promise<boolean> {
  let hasEnded = false;
  for (const { orderId, state, error } of results) {
    const isEnd = state !== "running";
    const { numUpdatedRows } = await tx
      .updateTable("fabric_order")
      .set({
        state,
        error: error === undefined ? null : JSON.stringify(error),
        ended_at: isEnd ? now : null,
      })
      .where("id", "=", orderId)
      .where("fabric_id", "=", fabricId)
      .where("ended_at", "is", null)
      .executeTakeFirst();
    hasEnded ||= isEnd && numUpdatedRows > 0n;
  }
  return hasEnded;
}
