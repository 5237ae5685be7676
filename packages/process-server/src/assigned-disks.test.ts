import assert from "node:assert/strict";
import { test } from "node:test";

import { must } from "@osr/base/assert";
import { uuidOfName } from "@osr/base/uuid";
import type { SessionRequest } from "@osr/contracts/agent-protocol";
import type { MachineGrant } from "@osr/contracts/site-protocol";
import { gatewayFactsShape } from "@osr/contracts/replication-facts";
import { groupKeyOf } from "@osr/repository/key-schedule";
import { diskIdOf } from "@osr/repository/disk-id";

import { AssignedDisks } from "./assigned-disks.ts";
import { gatewayFacts } from "./gateway-link.ts";
import { agentOf } from "./site-checks.contract.ts";
import { encodeChanges } from "./test-agent.contract.ts";
import { VAULT_KEY, openStore, openTestbed, runServer } from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "assigned");
const disks = [{ identity: "serial:a", sizeBytes: 4096 * 300 }];

function grant(...identities: readonly string[]): MachineGrant {
  return {
    machineId,
    groupId: machineId,
    groupKey: groupKeyOf(VAULT_KEY, machineId).toString("hex"),
    disks: identities.map((identity) => ({
      identity,
      diskId: diskIdOf(machineId, identity),
      timeline: 1,
      dataKey: "1f".repeat(32),
    })),
  };
}

test("only assigned machines and disks are admitted, and a machine that is withdrawn is out at once", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const assigned = new AssignedDisks();
  await using running = await runServer(testbed, { store, authority: assigned });
  using agent = await agentOf(testbed, running.port, machineId);
  const waits = { code: "MACHINE_NOT_ASSIGNED", retryable: true };
  await assert.rejects(agent.openSession(disks), waits);
  assert.deepEqual(assigned.replace([grant("serial:b")]), []);
  await assert.rejects(agent.openSession(disks), { code: "DISK_NOT_ASSIGNED", retryable: true });
  assert.deepEqual(assigned.replace([grant("serial:a")]), []);
  await agent.openSession(disks);
  const { diskId, nextInterval } = agent.granted("serial:a");
  const batch = (recordNo: number): Buffer =>
    encodeChanges([{ type: "zero", block: 0, count: 1 }], {
      session: agent.epoch,
      interval: nextInterval,
      recordNo,
    });
  await agent.send(diskId, batch(0));
  const withdrawn = assigned.replace([]);
  assert.deepEqual(withdrawn, [machineId]);
  for (const id of withdrawn) running.server.withdraw(id);
  await assert.rejects(agent.send(diskId, batch(1)), { code: "SESSION_REPLACED" });
  await assert.rejects(agent.openSession(disks), waits);
  const facts = gatewayFacts(running.server.status(), {
    hostName: "ps",
    version: "1",
    address: { host: "127.0.0.1", port: running.port },
    certificatePem: testbed.serverIdentity.certificatePem,
    load: { cpuPermille: 0, memoryPermille: 0 },
  });
  assert.deepEqual(gatewayFactsShape(JSON.parse(JSON.stringify(facts)), ""), facts);
  assert.equal(facts.protectedMachines, 1);
});

test("the vault's permission to go on after a failover reaches whoever claims the log", async () => {
  const assigned = new AssignedDisks();
  const whole = grant("serial:a");
  const [disk] = whole.disks;
  const claimGrant = {
    vaultId: uuidOfName("vault", "of the grant"),
    diskId: diskIdOf(machineId, "serial:a"),
    timeline: 1,
    generation: 3,
    signature: "ab".repeat(64),
  };
  const request = { disks: [{ identity: "serial:a" }] } as unknown as SessionRequest;
  assigned.replace([whole]);
  assert.equal((await assigned.admit(machineId, request)).disks[0]?.grant, undefined);
  assigned.replace([{ ...whole, disks: [{ ...must(disk, "disk"), claimGrant }] }]);
  assert.deepEqual((await assigned.admit(machineId, request)).disks[0]?.grant, claimGrant);
});
