import assert from "node:assert/strict";
import { test } from "node:test";

import { silentLog } from "@osr/base/log";
import { uuidOfName } from "@osr/base/uuid";

import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, encodeChanges } from "./test-agent.contract.ts";
import { eventually, openStore, openTestbed, runServer } from "./testbed.contract.ts";
import { WorkerEncoder } from "./worker-encoder.ts";

const machineId = uuidOfName("machine", "one");
const BLOCKS = 700;

test("two disks, tags, and points that read back exactly", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using encoder = new WorkerEncoder(silentLog);
  await using running = await runServer(testbed, { store, encoder });
  using agent = await agentOf(testbed, running.port, machineId);
  const identities = ["serial:a", "serial:b"];
  const models = new Map(identities.map((identity) => [identity, new ModelDisk(BLOCKS)]));
  const session = await agent.openSession(
    identities.map((identity) => ({ identity, sizeBytes: BLOCKS * 4096 })),
  );
  assert.equal(session.newestSlot, -1);
  const dice = new Dice(1);
  const frozen: Map<string, ModelDisk>[] = [];
  for (let slot = 5; slot < 8; slot++) {
    for (const identity of identities) {
      const model = models.get(identity)!;
      const changes: Change[] = [];
      for (let n = 0; n < 40; n++) changes.push(randomChange(dice, BLOCKS));
      for (const change of changes) model.apply(change);
      changes.push({ type: "mark", tag: agent.tag(slot, identities) }, { type: "end" });
      const interval = agent.granted(identity).nextInterval + slot;
      const { diskId } = agent.granted(identity);
      const body = encodeChanges(changes, { session: agent.epoch, interval, recordNo: 0 });
      const reply = await agent.send(diskId, body);
      assert.deepEqual([reply.spooledInterval, reply.spooledRecordNo], [interval, 41]);
    }
    frozen.push(new Map([...models].map(([identity, model]) => [identity, model.copy()])));
  }
  const beat = await eventually("newest point", async () => {
    const reply = await agent.heartbeat();
    return reply.newestPoint?.slot === 7 && reply;
  });
  assert.ok(beat.disks.every(({ vaultedInterval }) => vaultedInterval > 0));
  const made = await offeredPoints(store, machineId);
  assert.deepEqual(
    made.map(({ slot }) => slot),
    [5, 6, 7],
  );
  for (const [index, point] of made.entries())
    for (const identity of identities)
      await comparePoint(store, point, { machineId, identity }, frozen[index]!.get(identity)!);
  await assertRepositoryIsSound(store);
  const status = running.server.status();
  assert.equal(status.machines[0]?.disks.length, 2);
  assert.deepEqual(status.health, []);
  const metrics = await (await fetch(`http://127.0.0.1:${running.metricsPort}/metrics`)).text();
  assert.match(metrics, /osr_process_server_batches_total 6/);
});
