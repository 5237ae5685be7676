import type { JsonObject } from "@osr/base/json-value";
import { KIB, MIB } from "@osr/base/units";

import { ArmError, badRequest } from "../arm/arm-error.ts";
import { type ResourceRoute, type VaultRequest, ok } from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { VaultDatabase } from "../database/database.ts";
import { ITEM_ACTION, ITEM_PATH } from "../items/item-paths.ts";
import { foundItem, replicaOf } from "../items/item-row.ts";
import type { ReplicaFacts } from "@osr/contracts/replica-host";
import type { VaultContext } from "../vault-context.ts";

const route = routesOf(ITEM_ACTION);

const CONSOLE_BYTES_DEFAULT = 16 * KIB;
const CONSOLE_BYTES_MAX = MIB;
const KINDS = ["failover", "test"] as const;

type FoundReplica = { readonly kind: (typeof KINDS)[number]; readonly facts: ReplicaFacts };

/** What a failed-over machine shows, for people who cannot sit before it. */
export function replicaRoutes(context: VaultContext): ResourceRoute[] {
  return [
    route.read(
      `${ITEM_PATH}/OpenSiteRecovery/console`,
      "The end of the serial console of a failed-over machine (?replica=failover|test&bytes=N)",
      async (request, database) => {
        const bytes = bytesOf(request);
        const replica = await runningReplica(request, database, context);
        const text = await context.replicas.console(replica.facts.replicaId, bytes);
        return ok(shown(request, "console", replica, { text }));
      },
    ),
    route.read(
      `${ITEM_PATH}/OpenSiteRecovery/screenshot`,
      "The screen of a failed-over machine, as PNG in base64 (?replica=failover|test)",
      async (request, database) => {
        const replica = await runningReplica(request, database, context);
        const picture = await context.replicas.screenshot(replica.facts.replicaId);
        if (picture === undefined) throw notRunning(replica.facts.state);
        const content = { contentType: "image/png", base64: picture.toString("base64") };
        return ok(shown(request, "screenshot", replica, content));
      },
    ),
  ];
}

/** The one that is asked for; without a wish, the failover's before the test's. */
async function runningReplica(
  request: VaultRequest,
  database: VaultDatabase,
  { replicas }: VaultContext,
): Promise<FoundReplica> {
  const wish = request.query.get("replica");
  if (wish !== undefined && !KINDS.some((kind) => kind === wish))
    throw badRequest("replica", `must be one of ${KINDS.join(", ")}`);
  const row = await foundItem(request, database);
  const records = { failover: replicaOf(row.replica), test: replicaOf(row.test_replica) };
  for (const kind of KINDS) {
    const record = records[kind];
    if (record === undefined || (wish !== undefined && wish !== kind)) continue;
    const facts = await replicas.facts(record.replicaId);
    if (facts !== undefined) return { kind, facts };
  }
  throw notRunning("gone");
}

function bytesOf(request: VaultRequest): number {
  const bytes = Number(request.query.get("bytes") ?? CONSOLE_BYTES_DEFAULT);
  if (Number.isInteger(bytes) && bytes >= 1 && bytes <= CONSOLE_BYTES_MAX) return bytes;
  throw badRequest("bytes", `must be a whole number from 1 to ${CONSOLE_BYTES_MAX}`);
}

function shown(
  request: VaultRequest,
  name: string,
  { kind, facts }: FoundReplica,
  content: JsonObject,
): JsonObject {
  const properties = { replica: kind, machineName: facts.name, state: facts.state, ...content };
  return { id: request.resourcePath, name, type: `OpenSiteRecovery/${name}`, properties };
}

function notRunning(state: string): ArmError {
  return new ArmError(
    409,
    "ReplicaNotRunning",
    `no machine of this item runs at the recovery site (${state})`,
    "Start a test failover or a failover first.",
  );
}
