import { type Shape, object, oneOf, optional } from "@osr/base/json-shape";
import type { JsonObject } from "@osr/base/json-value";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import { ArmError, badRequest, notFound } from "../arm/arm-error.ts";
import {
  type ArmAccepted,
  type ArmReply,
  type ResourceRoute,
  type VaultRequest,
  accepted,
  ok,
} from "../arm/resource-routes.ts";
import { routesOf } from "../arm/route-table.ts";
import type { PolicyTable } from "../database/core-tables.ts";
import type { VaultDatabase, VaultTransaction } from "../database/database.ts";
import type { VaultContext } from "../vault-context.ts";
import { resourceBody } from "./resource-body.ts";

const MINUTE_SECONDS = 60;
const DAY_MINUTES = 24 * 60;
const RETENTION_MINUTES_MAX = 5 * 365 * DAY_MINUTES;
const RPO_MINUTES_MAX = 30 * DAY_MINUTES;
const INTERVAL_MINUTES_MAX = 7 * DAY_MINUTES;
/** Crash-consistent points: an agent makes at most one in 15 s. */
const POINT_MINUTES_MIN = 0.25;
const POLICIES_MAX = 1000;

type Provider = PolicyTable["provider"];
const PROVIDERS = ["InMageAzureV2", "InMage"] as const;

/** The fields of a policy that a client sets; absent ones are defaults on creation and unchanged otherwise. */
type PolicyInput = {
  readonly instanceType?: Provider | undefined;
  readonly recoveryPointThresholdInMinutes?: number | undefined;
  readonly recoveryPointHistory?: number | undefined;
  readonly crashConsistentFrequencyInMinutes?: number | undefined;
  readonly appConsistentFrequencyInMinutes?: number | undefined;
  readonly multiVmSyncStatus?: "Enable" | "Disable" | undefined;
};

function minutes(min: number, max: number): Shape<number> {
  return (value, path) => {
    if (typeof value === "number" && value >= min && value <= max) return value;
    throw badRequest(path, `must be a number of minutes from ${min} to ${max}`);
  };
}

const inputShape: Shape<PolicyInput> = object<PolicyInput>({
  instanceType: optional(oneOf(...PROVIDERS)),
  recoveryPointThresholdInMinutes: optional(minutes(1, RPO_MINUTES_MAX)),
  recoveryPointHistory: optional(minutes(0, RETENTION_MINUTES_MAX)),
  crashConsistentFrequencyInMinutes: optional(minutes(POINT_MINUTES_MIN, INTERVAL_MINUTES_MAX)),
  appConsistentFrequencyInMinutes: optional(minutes(0, INTERVAL_MINUTES_MAX)),
  multiVmSyncStatus: optional(oneOf("Enable", "Disable")),
});
const createShape = object<{ properties: { providerSpecificInput: PolicyInput } }>({
  properties: object<{ providerSpecificInput: PolicyInput }>({ providerSpecificInput: inputShape }),
});
const updateShape = object<{ properties: { replicationProviderSettings: PolicyInput } }>({
  properties: object<{ replicationProviderSettings: PolicyInput }>({
    replicationProviderSettings: inputShape,
  }),
});

type PolicyValues = Pick<
  PolicyTable,
  | "rpo_threshold_minutes"
  | "retention_minutes"
  | "point_interval_seconds"
  | "app_point_interval_seconds"
  | "is_multi_vm"
>;

const DEFAULTS: Readonly<Record<Provider, PolicyValues>> = {
  InMageAzureV2: {
    rpo_threshold_minutes: 60,
    retention_minutes: DAY_MINUTES,
    point_interval_seconds: 5 * MINUTE_SECONDS,
    app_point_interval_seconds: 60 * MINUTE_SECONDS,
    is_multi_vm: false,
  },
  // Azure's failback policy has these values and cannot be edited; ours can.
  InMage: {
    rpo_threshold_minutes: 15,
    retention_minutes: DAY_MINUTES,
    point_interval_seconds: 5 * MINUTE_SECONDS,
    app_point_interval_seconds: 60 * MINUTE_SECONDS,
    is_multi_vm: false,
  },
};

type PolicyRow = PolicyTable;

/** Replication policies. Each policy to the recovery site gets a failback policy `<name>-failback`. */
export function policyRoutes(context: VaultContext): ResourceRoute[] {
  const path = "V/replicationPolicies/{policyName}";
  const route = routesOf("Microsoft.RecoveryServices/vaults/replicationPolicies");
  return [
    route.read("V/replicationPolicies", "List replication policies", listPolicies),
    route.read(path, "Show a replication policy", async (request, database) =>
      ok(policyBody(request, await foundPolicy(request, database))),
    ),
    route.put(path, "Create or replace a replication policy", (request, tx) =>
      putPolicy(request, tx, context),
    ),
    route.patch(path, "Change a replication policy, also for machines that use it", (request, tx) =>
      patchPolicy(request, tx, context),
    ),
    route.remove(path, "Delete a replication policy that nothing uses", (request, tx) =>
      deletePolicy(request, tx, context),
    ),
  ];
}

async function listPolicies(request: VaultRequest, database: VaultDatabase): Promise<ArmReply> {
  const rows = await database
    .selectFrom("policy")
    .selectAll()
    .where("vault_id", "=", request.vault.id)
    .orderBy("key")
    .limit(POLICIES_MAX)
    .execute();
  return ok({ value: rows.map((row) => policyBody(request, row)), nextLink: null });
}

async function putPolicy(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const input = createShape(request.body ?? null, "").properties.providerSpecificInput;
  const { instanceType: provider } = input;
  if (provider === undefined)
    throw badRequest("properties.providerSpecificInput.instanceType", "is missing");
  const name = request.parameters["policyName"] ?? "";
  const values = withInput(DEFAULTS[provider], input);
  const id = await upsertPolicy(request, tx, context, { name, provider, values, failbackOf: null });
  if (provider === "InMageAzureV2") await ensureFailback(request, tx, context, { name, id });
  await wishAnew(tx, context, id);
  return accepted(
    await recorded(request, tx, context, "AddProtectionProfile", "Create replication policy"),
  );
}

async function upsertPolicy(
  request: VaultRequest,
  tx: VaultTransaction,
  { clock, randomness }: VaultContext,
  policy: {
    readonly name: string;
    readonly provider: Provider;
    readonly values: PolicyValues;
    readonly failbackOf: Uuid | null;
  },
): Promise<Uuid> {
  const now = clock.unixMs();
  const row = await tx
    .insertInto("policy")
    .values({
      id: randomUuid(randomness),
      vault_id: request.vault.id,
      key: policy.name.toLowerCase(),
      name: policy.name,
      provider: policy.provider,
      failback_of: policy.failbackOf,
      ...policy.values,
      created_at: now,
      changed_at: now,
    })
    .onConflict((conflict) =>
      conflict.columns(["vault_id", "key"]).doUpdateSet({ ...policy.values, changed_at: now }),
    )
    .returning(["id", "provider"])
    .executeTakeFirstOrThrow();
  if (row.provider !== policy.provider)
    throw new ArmError(
      409,
      "PolicyProviderMismatch",
      `policy ${policy.name} exists with the provider ${row.provider}`,
      "Choose another name, or delete that policy first.",
    );
  return row.id;
}

async function ensureFailback(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  of: { readonly name: string; readonly id: Uuid },
): Promise<void> {
  const name = `${of.name}-failback`;
  const known = await tx
    .selectFrom("policy")
    .select("id")
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", name.toLowerCase())
    .executeTakeFirst();
  if (known !== undefined) return;
  const policy = { name, provider: "InMage", values: DEFAULTS.InMage, failbackOf: of.id } as const;
  await upsertPolicy(request, tx, context, policy);
}

async function patchPolicy(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmAccepted> {
  const row = await foundPolicy(request, tx);
  const input = updateShape(request.body ?? null, "").properties.replicationProviderSettings;
  if (input.instanceType !== undefined && input.instanceType !== row.provider)
    throw badRequest(
      "properties.replicationProviderSettings.instanceType",
      `the policy has the provider ${row.provider}`,
    );
  await tx
    .updateTable("policy")
    .set({ ...withInput(row, input), changed_at: context.clock.unixMs() })
    .where("id", "=", row.id)
    .execute();
  await wishAnew(tx, context, row.id);
  return accepted(
    await recorded(request, tx, context, "UpdateProtectionProfile", "Update replication policy"),
  );
}

async function deletePolicy(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
): Promise<ArmReply | ArmAccepted> {
  const row = await tx
    .selectFrom("policy")
    .select(["id"])
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", (request.parameters["policyName"] ?? "").toLowerCase())
    .executeTakeFirst();
  if (row === undefined) return { status: 204 };
  const users = await tx
    .selectFrom("container_mapping")
    .innerJoin("policy", "policy.id", "container_mapping.policy_id")
    .select(["container_mapping.name"])
    .where((where) =>
      where.or([where("policy.id", "=", row.id), where("failback_of", "=", row.id)]),
    )
    .execute();
  if (users.length > 0)
    throw new ArmError(
      409,
      "PolicyInUse",
      `the policy is associated: ${users.map(({ name }) => name).join(", ")}`,
      "Remove the container mappings first.",
    );
  await tx
    .deleteFrom("policy")
    .where((where) => where.or([where("id", "=", row.id), where("failback_of", "=", row.id)]))
    .execute();
  return accepted(
    await recorded(request, tx, context, "RemoveProtectionProfile", "Delete replication policy"),
  );
}

/** Whoever replicates by this policy learns of the change. */
async function wishAnew(
  tx: VaultTransaction,
  context: VaultContext,
  policyId: Uuid,
): Promise<void> {
  const fabrics = await tx
    .selectFrom("container_mapping")
    .select("fabric_id")
    .distinct()
    .where("policy_id", "=", policyId)
    .orderBy("fabric_id")
    .execute();
  for (const { fabric_id: fabricId } of fabrics) await context.fabrics.changed(tx, fabricId);
}

function recorded(
  request: VaultRequest,
  tx: VaultTransaction,
  context: VaultContext,
  kind: string,
  friendlyName: string,
): Promise<Uuid> {
  return context.jobs.record(tx, {
    vaultId: request.vault.id,
    kind,
    friendlyName,
    input: {},
    target: {
      id: request.resourcePath,
      name: request.parameters["policyName"] ?? "",
      instanceType: "ProtectionProfile",
    },
    resourcePath: request.resourcePath,
    activityId: request.activityId,
  });
}

async function foundPolicy(request: VaultRequest, database: VaultDatabase): Promise<PolicyRow> {
  const name = request.parameters["policyName"] ?? "";
  const row = await database
    .selectFrom("policy")
    .selectAll()
    .where("vault_id", "=", request.vault.id)
    .where("key", "=", name.toLowerCase())
    .executeTakeFirst();
  if (row === undefined) throw notFound(`replication policy ${name}`);
  return row;
}

function withInput(values: PolicyValues, input: PolicyInput): PolicyValues {
  const { crashConsistentFrequencyInMinutes: crash, appConsistentFrequencyInMinutes: app } = input;
  const seconds = (value: number): number => Math.round(value * MINUTE_SECONDS);
  return {
    rpo_threshold_minutes: Math.round(
      input.recoveryPointThresholdInMinutes ?? values.rpo_threshold_minutes,
    ),
    retention_minutes: Math.round(input.recoveryPointHistory ?? values.retention_minutes),
    point_interval_seconds: crash === undefined ? values.point_interval_seconds : seconds(crash),
    app_point_interval_seconds:
      app === undefined ? values.app_point_interval_seconds : seconds(app),
    is_multi_vm:
      input.multiVmSyncStatus === undefined
        ? values.is_multi_vm
        : input.multiVmSyncStatus === "Enable",
  };
}

function policyBody(request: VaultRequest, row: PolicyRow): JsonObject {
  const crash =
    row.provider === "InMageAzureV2"
      ? { crashConsistentFrequencyInMinutes: row.point_interval_seconds / MINUTE_SECONDS }
      : {};
  return resourceBody(request.vault, ["replicationPolicies", row.name], {
    friendlyName: row.name,
    providerSpecificDetails: {
      instanceType: row.provider,
      ...crash,
      recoveryPointThresholdInMinutes: row.rpo_threshold_minutes,
      recoveryPointHistory: row.retention_minutes,
      appConsistentFrequencyInMinutes: row.app_point_interval_seconds / MINUTE_SECONDS,
      multiVmSyncStatus: row.is_multi_vm ? "Enabled" : "Disabled",
    },
  });
}
