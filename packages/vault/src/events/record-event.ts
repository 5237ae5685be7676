import type { Clock } from "@osr/base/clock";
import type { JsonObject } from "@osr/base/json-value";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import type { VaultTransaction } from "../database/database.ts";

/** Something that happened, for the vault's history. What is wrong at the moment is health, not an event. */
export type NewEvent = {
  readonly vaultId: Uuid;
  /** Stable: `FABRIC_REGISTERED`. */
  readonly code: string;
  /** ARM's words: `VmHealth`, `ServerHealth`, `AgentHealth`, `Unknown`. */
  readonly eventType: string;
  readonly severity: "Info" | "Warning" | "Error";
  readonly description: string;
  readonly affected: { readonly id: string; readonly name: string };
  readonly fabricId?: Uuid | undefined;
  /** `possibleCauses`, `recommendedAction` and facts. */
  readonly details?: JsonObject | undefined;
};

/** In the transaction of what happened. */
export async function recordEvent(
  tx: VaultTransaction,
  event: NewEvent,
  ports: { readonly clock: Clock; readonly randomness: Randomness },
): Promise<void> {
  await tx
    .insertInto("event")
    .values({
      id: randomUuid(ports.randomness),
      vault_id: event.vaultId,
      code: event.code,
      event_type: event.eventType,
      severity: event.severity,
      description: event.description,
      affected_name: event.affected.name,
      affected_id: event.affected.id,
      fabric_id: event.fabricId ?? null,
      details: JSON.stringify(event.details ?? {}),
      occurred_at: ports.clock.unixMs(),
    })
    .execute();
}
