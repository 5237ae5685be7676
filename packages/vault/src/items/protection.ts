import { OsrError, defineErrors } from "@osr/base/errors";
import type { JsonObject, JsonValue } from "@osr/base/json-value";
import { type RetryPolicy, retried } from "@osr/base/retry";
import type { Uuid } from "@osr/base/uuid";
import type { SessionDisk } from "@osr/contracts/agent-protocol";
import type { ReplicaFacts } from "@osr/contracts/replica-host";
import { diskIdOf } from "@osr/repository/disk-id";
import { diskPrefix, recoveryPointPrefix } from "@osr/repository/object-names";
import { listAll } from "@osr/repository/object-store";

import { recordEvent } from "../events/record-event.ts";
import type { Operation } from "../jobs/operation.ts";
import type { VaultContext } from "../vault-context.ts";
import { claimGrantsOf, machineGrantOf } from "./disk-grants.ts";
import { afterFailure, itemOf, lockedItem, taskOf } from "./item-job.ts";
import {
  type ItemRow,
  groupIdOf,
  knownDisksOf,
  replicaOf,
  reportedMachine,
  setItem,
  stateOf,
} from "./item-row.ts";

export const PROTECTION_ERRORS = defineErrors({
  AGENT_MISSING: {
    retryable: false,
    hint: "Install the mobility service on the machine and enrol it with the configuration server, then enable replication again.",
  },
  NO_DISKS: {
    retryable: false,
    hint: "The mobility service sees no disk that it can replicate; `osr doctor` on the machine says why. Exclude fewer disks.",
  },
  REPLICA_NEEDS_DATA: {
    retryable: true,
    hint: "The failed-over machine still reads its disks from the replicated data. Wait until they are on local storage, or disable without deleting data.",
  },
});

/** Looking at a machine does not wait for a host that is being replaced, but a job does, for about a minute. */
const LOOK_RETRY: RetryPolicy = { attemptsMax: 12, delayFirstMs: 200, delayMaxMs: 10_000 };

export type ItemInput = { readonly itemId: Uuid };
export type DisableInput = { readonly itemId: Uuid; readonly deletesData: boolean };

/**
 * Enables replication: makes the data keys of the machine's disks, and wishes it of the fabric. Initial replication is what
 * the item shows from then on, not a part of this job.
 */
export function enableOperation(context: VaultContext): Operation<ItemInput> {
  return {
    kind: "EnableDr",
    tasks: [
      taskOf(
        "EnableProtectionPrerequisitesCheckTask",
        "VmEnableDrPrerequisitesCheck",
        "Prerequisites check for enabling protection",
      ),
      taskOf("PrepareDataKeysTask", "VmPrepareDataKeys", "Make the data keys of the disks"),
      taskOf("EnableProtectionTask", "VmEnableProtection", "Enable replication"),
    ],
    run: async (job, { itemId }) => {
      const row = await itemOf(context, job, itemId);
      const machine = { vaultId: row.vault_id, machineId: row.machine_id };
      const disks = await job.task(
        "EnableProtectionPrerequisitesCheckTask",
        async () => (await protectedDisks(context, row)) as readonly SessionDisk[] & JsonValue,
      );
      const claimGrants = await job.task("PrepareDataKeysTask", async (signal) => {
        const whole = { ...machine, groupId: groupIdOf(row), disks, claimGrants: {} };
        await machineGrantOf(context, whole, signal);
        return claimGrantsOf(context, { ...machine, disks }, signal);
      });
      await job.task("EnableProtectionTask", () => Promise.resolve(null));
      await job.transaction("succeeded", async (tx) => {
        const now = await lockedItem(tx, itemId);
        const state = { ...stateOf(now), phase: "protected", before: "protected" } as const;
        const knownDisks = knownDisksOf(await reportedMachine(tx, now));
        await setItem(tx, itemId, context.clock.unixMs(), state, { claimGrants, knownDisks });
        await context.fabrics.changed(tx, now.fabric_id);
        return null;
      });
      await context.sealing.sealed(job.vaultId, job.signal);
    },
    ended: async (tx, _jobId, { itemId }) => {
      const row = await lockedItem(tx, itemId);
      const state = { ...stateOf(row), phase: "enable-failed", before: "enable-failed" } as const;
      await setItem(tx, itemId, context.clock.unixMs(), state);
    },
  };
}

/** Throws AGENT_MISSING, NO_DISKS. */
async function protectedDisks(
  context: VaultContext,
  row: ItemRow,
): Promise<readonly SessionDisk[]> {
  const registration = (await reportedMachine(context.database, row))?.registration;
  if (registration === undefined)
    throw new OsrError(
      PROTECTION_ERRORS.AGENT_MISSING,
      `the mobility service of ${row.friendly_name} has not registered`,
    );
  const excluded = row.excluded_disks as readonly string[];
  const disks = registration.disks.filter(({ identity }) => !excluded.includes(identity));
  if (disks.length > 0) return disks;
  throw new OsrError(PROTECTION_ERRORS.NO_DISKS, `${row.friendly_name} has no disk to replicate`);
}

/**
 * Ends replication. With `deletesData`, everything that the storage account holds of the machine is deleted, and the job says
 * how much that was; a failed-over machine is never touched. Order: the source stops first; the item goes last, so that a
 * crash leaves an item that is disabling and goes on.
 */
export function disableOperation(context: VaultContext): Operation<DisableInput> {
  return {
    kind: "DisableDr",
    tasks: [
      taskOf(
        "DisableProtectionPrerequisitesCheckTask",
        "VmDisableDrPrerequisitesCheck",
        "Prerequisites check for disabling protection",
      ),
      taskOf("DisableProtectionTask", "VmDisableProtection", "Stop replication"),
      taskOf("DeleteReplicatedDataTask", "VmDeleteReplicatedData", "Delete replicated data"),
    ],
    run: async (job, { itemId, deletesData }) => {
      const row = await itemOf(context, job, itemId);
      await job.task("DisableProtectionPrerequisitesCheckTask", async (signal) => {
        if (deletesData) await checkReplica(context, row, signal);
        return null;
      });
      await job.task("DisableProtectionTask", () => Promise.resolve(null));
      await job.transaction("stopped", async (tx) => {
        await context.fabrics.changed(tx, row.fabric_id);
        return null;
      });
      if (deletesData) {
        const deleted = await job.task("DeleteReplicatedDataTask", (signal) =>
          deleteData(context, row, signal),
        );
        await job.details({ instanceType: "AsrJobDetails", affectedObjectDetails: {}, ...deleted });
      } else await job.skip("DeleteReplicatedDataTask");
      await job.transaction("succeeded", async (tx) => {
        const now = await lockedItem(tx, itemId);
        await tx.deleteFrom("protected_item").where("id", "=", itemId).execute();
        const kept = deletesData
          ? "its replicated data was deleted"
          : "its replicated data is kept";
        await recordEvent(
          tx,
          {
            vaultId: now.vault_id,
            code: "PROTECTION_DISABLED",
            eventType: "VmHealth",
            severity: "Info",
            description: `Replication of ${now.friendly_name} was disabled; ${kept}.`,
            affected: { id: now.machine_id, name: now.friendly_name },
            fabricId: now.fabric_id,
          },
          context,
        );
        return null;
      });
      await context.sealing.sealed(job.vaultId, job.signal);
    },
    ended: afterFailure(context, "DisableProtection"),
  };
}

async function checkReplica(
  context: VaultContext,
  row: ItemRow,
  signal: AbortSignal,
): Promise<void> {
  const replica = replicaOf(row.replica);
  if (replica === undefined) return;
  const look = (): Promise<ReplicaFacts | undefined> => context.replicas.facts(replica.replicaId);
  const facts = await retried(look, LOOK_RETRY, { ...context, signal });
  if (facts === undefined || facts.isLocal) return;
  throw new OsrError(
    PROTECTION_ERRORS.REPLICA_NEEDS_DATA,
    `${facts.name} still reads from the replicated data of ${row.friendly_name}`,
  );
}

/** Points first, so that nobody finds a point whose data is gone. */
async function deleteData(
  context: VaultContext,
  row: ItemRow,
  signal: AbortSignal,
): Promise<JsonObject> {
  const { store } = context;
  const machine = await reportedMachine(context.database, row);
  const disks = machine?.registration?.disks ?? [];
  const prefixes = [
    recoveryPointPrefix(row.vault_id, groupIdOf(row)),
    ...disks.map(({ identity }) => diskPrefix(row.vault_id, diskIdOf(row.machine_id, identity))),
  ];
  let deletedObjects = 0;
  let deletedBytes = 0;
  for (const prefix of prefixes)
    for await (const { name, sizeBytes } of listAll(store, prefix, signal)) {
      await store.delete(name, signal);
      deletedObjects += 1;
      deletedBytes += sizeBytes;
    }
  return { deletedObjects, deletedBytes };
}
