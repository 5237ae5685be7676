import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { must } from "@osr/base/assert";
import { systemScheduler } from "@osr/base/platform/system-scheduler";

import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { type Life, protectedLife } from "../testing/test-life.ts";
import { VAULT_PATH, VERSION } from "../testing/test-vault.ts";

const FAILOVER = {
  properties: {
    failoverDirection: "PrimaryToRecovery",
    sourceSiteOperations: "NotRequired",
    providerSpecificDetails: { instanceType: "InMageAzureV2" },
  },
} as const;

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const failOver = ({ sr, at }: Life): Promise<unknown> =>
  sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...at, FAILOVER);
const stateOf = async (life: Life): Promise<string | undefined> =>
  (await life.item()).properties?.protectionState;

async function restart({ vault }: Life, kind: string): Promise<number> {
  const jobs = await vault.request("GET", `${VAULT_PATH}/replicationJobs?${VERSION}`);
  const job = jobs.body.value.find(({ properties }: any) => properties.scenarioName === kind);
  return (
    await vault.request("POST", `${VAULT_PATH}/replicationJobs/${job.name}/restart?${VERSION}`)
  ).status;
}

test("a failed failover goes on where it ended, but not when its source was let go on since", async () => {
  await using life = await protectedLife(postgres);
  life.site.failsNext = "no room";
  await assert.rejects(failOver(life), /no room/);
  assert.equal(await stateOf(life), "UnplannedFailoverFailed");
  await life.sr.replicationProtectedItems.beginFailoverCancelAndWait(...life.at);
  // What it did then would not be done again: the source would run on unfenced beside the machine.
  assert.equal(await restart(life, "UnplannedFailover"), 409);
  assert.equal(await stateOf(life), "Protected");
  life.site.failsNext = "no room";
  await assert.rejects(failOver(life), /no room/);
  assert.equal(await restart(life, "UnplannedFailover"), 200);
  while ((await stateOf(life)) === "UnplannedFailoverInProgress") await systemScheduler.sleep(20);
  assert.equal(await stateOf(life), "UnplannedFailoverCommitPending");
  assert.equal(life.site.replicas.size, 1);
});

test("a failover whose machine could not be deleted is still one: it is not said that nothing runs", async () => {
  await using life = await protectedLife(postgres);
  await failOver(life);
  const { replicationProtectedItems: items } = life.sr;
  life.site.destroyFailsNext = "out of reach";
  await assert.rejects(items.beginFailoverCancelAndWait(...life.at), /out of reach/);
  assert.equal(await stateOf(life), "UnplannedFailoverCommitPending");
  assert.equal(life.site.replicas.size, 1);
  await items.beginFailoverCancelAndWait(...life.at);
  assert.equal(await stateOf(life), "Protected");
  assert.equal(life.site.replicas.size, 0);
});

test("a source that could not be shut down is said not to be, and is fenced all the same", async () => {
  await using life = await protectedLife(postgres);
  const { revision } = await life.fabric.desired();
  const properties = { ...FAILOVER.properties, sourceSiteOperations: "Required" } as const;
  const failover = life.sr.replicationProtectedItems.beginUnplannedFailoverAndWait(...life.at, {
    properties,
  });
  const { orders } = await life.fabric.desired(revision);
  const { id: orderId, kind } = must(orders[0], "an order");
  assert.equal(kind, "shut-down-machine");
  const error = { code: "MACHINE_AWAY", message: "it does not answer", hint: "Look at it." };
  await life.fabric.report({ orderResults: [{ orderId, state: "failed", error }] });
  await failover;
  const jobs = await life.vault.request("GET", `${VAULT_PATH}/replicationJobs?${VERSION}`);
  const job = jobs.body.value.find(
    (one: any) => one.properties.scenarioName === "UnplannedFailover",
  );
  const { state, tasks, errors } = job.properties;
  const task = tasks.find((one: any) => one.taskId === "ShutdownSourceMachineTask");
  assert.deepEqual([state, task.state], ["Succeeded", "Failed"]);
  assert.deepEqual(
    errors.map((one: any) => [one.taskId, one.serviceErrorDetails.code]),
    [["ShutdownSourceMachineTask", "MACHINE_AWAY"]],
  );
  assert.equal((await life.wish())?.isProtected, false);
});

test("a machine that a failover starts is not deleted under it", async () => {
  await using life = await protectedLife(postgres);
  const { promise: started, resolve } = Promise.withResolvers<void>();
  life.site.started = started;
  const failover = failOver(life);
  while (life.site.replicas.size === 0) await systemScheduler.sleep(20);
  const replicaId = must([...life.site.replicas.keys()][0], "it starts");
  const path = `${VAULT_PATH}/OpenSiteRecovery/replicas/${replicaId}?${VERSION}`;
  const { status, body } = await life.vault.request("DELETE", path);
  resolve();
  assert.deepEqual([status, body.error?.code], [409, "ReplicaInUse"]);
  await failover;
});
