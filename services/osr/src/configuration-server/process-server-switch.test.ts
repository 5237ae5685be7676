import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { must } from "@osr/base/assert";
import { systemScheduler } from "@osr/base/platform/system-scheduler";
import type { AgentSettings, GatewayAssignment } from "@osr/contracts/site-protocol";
import { type TestRole, TestSite } from "@osr/configuration-server/testing/test-site";
import { clientsOf } from "@osr/vault/testing/official-clients";
import { type TestPostgres, startTestPostgres } from "@osr/vault/testing/test-database";
import { createVault } from "@osr/vault/testing/test-fabric";
import {
  GROUP,
  type TestVault,
  VAULT_PATH,
  VERSION,
  startTestVault,
} from "@osr/vault/testing/test-vault";

const SILENT_MS = 1500;
const POLL_MS = 50;
const TRIES_MAX = 400;

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

/** The real vault and the real configuration server, and on their link an agent and two process servers that report. */
async function linkedSite(stack: AsyncDisposableStack): Promise<{
  readonly vault: TestVault;
  readonly agent: TestRole;
  readonly servers: readonly [TestRole, TestRole];
  /** Process servers that go on reporting. */
  readonly alive: Set<TestRole>;
}> {
  const vault = stack.use(await startTestVault(await postgres.newDatabase()));
  await createVault(vault);
  const site = stack.use(await new TestSite({ gatewaySilentMs: SILENT_MS }).start());
  const path = `${VAULT_PATH}/OpenSiteRecovery/vaultCredentials?${VERSION}`;
  await site.register({ credentials: async () => (await vault.request("POST", path)).body });
  const agent = stack.use(await site.enrol("mobility-service"));
  const first = stack.use(await site.enrol("process-server"));
  const second = stack.use(await site.enrol("process-server"));
  const alive = new Set([first, second]);
  const over = new AbortController();
  const reporting = (async (): Promise<void> => {
    while (!over.signal.aborted) {
      for (const server of alive) await server.reportGateway();
      await systemScheduler.sleep(POLL_MS, over.signal).catch(() => undefined);
    }
  })();
  stack.defer(async () => {
    over.abort();
    await reporting;
  });
  await agent.report();
  return { vault, agent, servers: [first, second], alive };
}

async function enable(vault: TestVault, agent: TestRole): Promise<void> {
  const { sr } = clientsOf(vault);
  const { name: container } = await eventually(async () => {
    for await (const found of sr.replicationProtectionContainers.list("vault", GROUP)) return found;
    return undefined;
  });
  const at = ["vault", GROUP, "site-a", must(container, "container")] as const;
  await eventually(async () => {
    for await (const {
      name,
    } of sr.replicationProtectableItems.listByReplicationProtectionContainers(...at))
      if (name === agent.id) return true;
    return undefined;
  });
  await sr.replicationPolicies.beginCreateAndWait("vault", GROUP, "gold", {
    properties: {
      providerSpecificInput: { instanceType: "InMageAzureV2", multiVmSyncStatus: "Disable" },
    },
  });
  await sr.replicationProtectedItems.beginCreateAndWait(...at, "web01", {
    properties: {
      policyId: `${VAULT_PATH}/replicationPolicies/gold`,
      protectableItemId: `${VAULT_PATH}/replicationFabrics/site-a/replicationProtectionContainers/${container}/replicationProtectableItems/${agent.id}`,
      providerSpecificDetails: { instanceType: "InMageAzureV2" },
    },
  });
}

async function eventually<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await systemScheduler.sleep(POLL_MS);
  }
  return assert.fail("it did not come about");
}

/** The next settings in which the machine has a process server; an agent asks and asks again. */
async function settled(agent: TestRole, before?: AgentSettings): Promise<AgentSettings> {
  return await eventually(async () => {
    const settings = await agent.settings(before?.revision);
    const id = settings?.processServer?.id;
    return id === undefined || id === before?.processServer?.id ? undefined : settings;
  });
}

async function granted(server: TestRole): Promise<GatewayAssignment["machines"]> {
  return must(await server.assignment(), "assignment").machines;
}

test("machines are moved to another process server on request, and by themselves when theirs falls silent, without a resync", async () => {
  await using stack = new AsyncDisposableStack();
  const { vault, agent, servers, alive } = await linkedSite(stack);
  await enable(vault, agent);
  const first = await settled(agent);
  const [source, target] =
    servers[0].id === first.processServer?.id ? servers : servers.toReversed();
  assert.ok(source !== undefined && target !== undefined);
  const [grant] = await granted(source);
  await agent.report({ state: "protected", processServerId: source.id });
  const { sr } = clientsOf(vault);
  await eventually(async () => {
    for await (const item of sr.replicationProtectedItems.list("vault", GROUP)) {
      const details: object = item.properties?.providerSpecificDetails ?? {};
      if ("processServerId" in details && details.processServerId === source.id) return true;
    }
    return undefined;
  });

  const moving = sr.replicationFabrics.beginReassociateGatewayAndWait("vault", GROUP, "site-a", {
    properties: {
      containerName: "",
      sourceProcessServerId: source.id,
      targetProcessServerId: target.id,
      vmsToMigrate: [agent.id],
      updateType: "ServerLevel",
    },
  });
  const second = await settled(agent, first);
  await moving;
  assert.equal(second.processServer?.id, target.id);
  assert.deepEqual(await granted(target), [grant]);
  assert.deepEqual(await granted(source), []);

  alive.delete(target);
  const third = await settled(agent, second);
  assert.equal(third.processServer?.id, source.id);
  assert.deepEqual(await granted(source), [grant]);
  const { revision: _, processServer: __, ...rest } = first;
  for (const { revision: ___, processServer: ____, ...same } of [second, third])
    assert.deepEqual(same, rest);
  assert.equal(rest.resyncRequest, 0);
});
