import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import { signClaimGrant } from "@osr/repository/claim-grant";
import { fenceForFailover } from "@osr/repository/log-claim";
import { diskDescriptorName, recoveryPointName, segmentName } from "@osr/repository/object-names";
import { bodyOf } from "@osr/repository/object-store";
import { verifyRepository } from "@osr/repository/repository-check";
import { readDataKey } from "@osr/repository/wrapped-key";
import { diskIdOf } from "@osr/repository/disk-id";

import { FaultyStore } from "./faulty-store.contract.ts";
import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  type Testbed,
  VAULT_ID,
  VAULT_KEY,
  eventually,
  hastyScheduler,
  openAuthority,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "ownership");
const BLOCKS = 200;
const DISK = { identity: "serial:a", sizeBytes: BLOCKS * 4096 };
const OTHER = { identity: "serial:b", sizeBytes: BLOCKS * 4096 };
const diskId = diskIdOf(machineId, DISK.identity);
const ROOT = { vaultId: VAULT_ID, diskId, timeline: 1 };

/** Sends the next interval of a session, of some changes and a tag. */
async function sendTagged(
  agent: TestAgent,
  disks: ReadonlyMap<string, ModelDisk>,
  place: { readonly slot: number; readonly dice: Dice; readonly nth?: number },
): Promise<void> {
  const { slot, dice, nth = 0 } = place;
  const tag = agent.tag(slot, [...disks.keys()]);
  for (const [identity, model] of disks) {
    const changes: Change[] = Array.from({ length: 8 }, () => randomChange(dice, BLOCKS));
    for (const change of changes) model.apply(change);
    const { diskId, nextInterval } = agent.granted(identity);
    const records: Change[] = [...changes, { type: "mark", tag }, { type: "end" }];
    const interval = nextInterval + nth;
    const at = { session: agent.epoch, interval, recordNo: 0 };
    await agent.send(diskId, encodeChanges(records, at));
  }
}

async function untilPoint(agent: TestAgent, slot: number): Promise<void> {
  await eventually(
    `point ${slot}`,
    async () => (await agent.heartbeat()).newestPoint?.slot === slot,
  );
}

async function findingsOf(testbed: Testbed): Promise<readonly string[]> {
  const codes: string[] = [];
  const store = await openStore(testbed.storeFolder);
  for await (const event of verifyRepository(store, { vaultId: VAULT_ID, vaultKey: VAULT_KEY }))
    if (event.kind === "finding") codes.push(event.code);
  return codes;
}

async function dataKeyOf(testbed: Testbed, id: Uuid) {
  const store = await openStore(testbed.storeFolder);
  return readDataKey(store, { vaultId: VAULT_ID, vaultKey: VAULT_KEY, diskId: id });
}

test("a disk moves to another process server and back, and every point is what it should be", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using first = await runServer(testbed, { store });
  const spoolFolder = join(testbed.folder, "other-spool");
  await using second = await runServer(testbed, { store, spoolFolder });
  using atFirst = await agentOf(testbed, first.port, machineId);
  using atSecond = await agentOf(testbed, second.port, machineId);
  const model = new ModelDisk(BLOCKS);
  const frozen: ModelDisk[] = [];
  const dice = new Dice(7);
  for (const [round, agent] of [atFirst, atSecond, atFirst, atSecond].entries()) {
    const slot = round + 1;
    const reply = await agent.openSession([DISK], 10 + round);
    assert.equal(reply.newestSlot, round === 0 ? -1 : round);
    assert.equal(agent.granted(DISK.identity).vaultedInterval, round);
    assert.equal(agent.granted(DISK.identity).nextInterval, round + 1);
    await sendTagged(agent, new Map([[DISK.identity, model]]), { slot, dice });
    frozen.push(model.copy());
    await untilPoint(agent, slot);
  }
  const points = await offeredPoints(store, machineId);
  assert.equal(points.length, 4);
  const disk = { machineId, identity: DISK.identity };
  for (const [index, point] of points.entries())
    await comparePoint(store, point, disk, frozen[index]!);
  await assertRepositoryIsSound(store);
  assert.deepEqual(second.server.status().health, []);
});

test("points that the logs prove are made by the next owner, older ones too", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const store = new FaultyStore(real);
  const disks = [DISK, OTHER];
  const models = new Map(disks.map(({ identity }) => [identity, new ModelDisk(BLOCKS)]));
  const frozen = new Map<number, Map<string, ModelDisk>>();
  {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession(disks);
    store.fault = (name) => (name.includes("/g/") ? "fails" : "works");
    const dice = new Dice(8);
    for (const [nth, slot] of [1, 2].entries()) {
      await sendTagged(agent, models, { slot, dice, nth });
      frozen.set(slot, new Map([...models].map(([name, model]) => [name, model.copy()])));
    }
    await eventually("all is vaulted", async () =>
      (await agent.heartbeat()).disks.every(({ vaultedInterval }) => vaultedInterval === 2),
    );
  }
  assert.deepEqual(await offeredPoints(real, machineId), []);
  // The first one's spool is lost with it.
  const spoolFolder = join(testbed.folder, "other-spool");
  await using running = await runServer(testbed, { store: real, spoolFolder });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession(disks, 2);
  const points = await eventually("both points", async () => {
    const made = await offeredPoints(real, machineId);
    return made.length === 2 && made;
  });
  for (const point of points)
    for (const { identity } of disks)
      await comparePoint(
        real,
        point,
        { machineId, identity },
        frozen.get(point.slot)!.get(identity)!,
      );
});

test("a log that somebody without the keys wrote into goes on in a child timeline, and says so", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const models = new Map([[DISK.identity, new ModelDisk(BLOCKS)]]);
  const dice = new Dice(9);
  {
    await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    await sendTagged(agent, models, { slot: 1, dice });
    await untilPoint(agent, 1);
    await store.create(segmentName(ROOT, 3), bodyOf(Buffer.alloc(1000, 1)));
    const before = models.get(DISK.identity)!.copy();
    await sendTagged(agent, models, { slot: 2, dice, nth: 1 });
    await eventually("it is found", () =>
      running.server.status().health.some(({ code }) => code === "LOG_TAMPERED"),
    );
    const end = { session: agent.epoch, interval: 3, recordNo: 0 };
    const batch = encodeChanges([{ type: "end" }], end);
    await assert.rejects(agent.send(diskId, batch), { code: "SESSION_REPLACED" });
    // Nothing that was vaulted is asked for again; what was not is sent once more, here as other changes.
    const reply = await agent.openSession([DISK], 2);
    assert.deepEqual([reply.newestSlot, agent.granted(DISK.identity).vaultedInterval], [2, 1]);
    models.set(DISK.identity, before);
    await sendTagged(agent, models, { slot: 3, dice });
    await untilPoint(agent, 3);
    const health = running.server.status().health.map(({ code, message }) => [code, message]);
    assert.match(String(health), /^LOG_TAMPERED,.*segment 2 of timeline 1.*timeline 2$/);
    assert.equal(existsSync(join(testbed.spoolFolder, diskId, "t1")), false);
  }
  // Whoever comes later finds the timeline, and owns it where the spool says so.
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK], 3);
  await sendTagged(agent, models, { slot: 4, dice });
  await untilPoint(agent, 4);
  const points = await offeredPoints(store, machineId);
  assert.deepEqual(
    points.map(({ slot, disks }) => [slot, disks[0]?.timeline, disks[0]?.seq]),
    [
      [1, 1, 2],
      [3, 2, 2],
      [4, 2, 3],
    ],
  );
  const disk = { machineId, identity: DISK.identity };
  await comparePoint(store, points.at(-1)!, disk, models.get(DISK.identity)!);
  assert.deepEqual(await findingsOf(testbed), ["LOG_TAMPERED"]);
  assert.deepEqual(running.server.status().health, []);
});

test("a disk whose descriptor's name is taken is replicated on the next timeline", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await store.create(diskDescriptorName(ROOT), bodyOf(Buffer.from("{}")));
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const models = new Map([[DISK.identity, new ModelDisk(BLOCKS)]]);
  await sendTagged(agent, models, { slot: 1, dice: new Dice(1) });
  await untilPoint(agent, 1);
  const [point] = await offeredPoints(store, machineId);
  assert.equal(point?.disks[0]?.timeline, 2);
  const disk = { machineId, identity: DISK.identity };
  await comparePoint(store, point, disk, models.get(DISK.identity)!);
});

test("a point whose name is taken is told, and the next one is made", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const models = new Map([[DISK.identity, new ModelDisk(BLOCKS)]]);
  const dice = new Dice(3);
  const name = recoveryPointName(VAULT_ID, machineId, 5);
  await store.create(name, bodyOf(Buffer.from("squatted")));
  await sendTagged(agent, models, { slot: 5, dice });
  await eventually("it is told", () =>
    running.server.status().health.some(({ code }) => code === "POINT_INVALID"),
  );
  await sendTagged(agent, models, { slot: 6, dice, nth: 1 });
  await untilPoint(agent, 6);
  assert.deepEqual(running.server.status().health, []);
});

test("a log that lost a segment is not gone on with, and the agent is told why", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const models = new Map([[DISK.identity, new ModelDisk(BLOCKS)]]);
  {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    await sendTagged(agent, models, { slot: 1, dice: new Dice(4) });
    await sendTagged(agent, models, { slot: 2, dice: new Dice(5), nth: 1 });
    await untilPoint(agent, 2);
  }
  await store.delete(segmentName(ROOT, 2));
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await assert.rejects(agent.openSession([DISK], 2), { code: "LOG_BROKEN", retryable: false });
});

test("a copy of a machine gets no session, and the machine keeps its own", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const spoolFolder = join(testbed.folder, "other-spool");
  {
    await using running = await runServer(testbed, { store });
    using source = await agentOf(testbed, running.port, machineId);
    using copy = await agentOf(testbed, running.port, machineId);
    copy.biosUuid = uuidOfName("another machine");
    await source.openSession([DISK], 5);
    await assert.rejects(copy.openSession([DISK], 9), { code: "MACHINE_IS_REPLICA" });
    assert.equal((await source.heartbeat()).disks.length, 1);
  }
  // Nor from a process server that has never heard of either.
  await using running = await runServer(testbed, { store, spoolFolder });
  using copy = await agentOf(testbed, running.port, machineId);
  copy.biosUuid = uuidOfName("another machine");
  await assert.rejects(copy.openSession([DISK], 9), { code: "MACHINE_IS_REPLICA" });
  assert.equal((await store.list(`v1/${VAULT_ID}/d/${diskId}/t1/log/`)).objects.length, 1);
  // A machine without an UUID cannot be told from its copies.
  copy.biosUuid = "";
  await copy.openSession([DISK], 10);
});

test("a failed-over machine replicates nothing more until the vault grants a claim", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const models = new Map([[DISK.identity, new ModelDisk(BLOCKS)]]);
  const dice = new Dice(2);
  const authority = openAuthority(store);
  let isGranted = false;
  await using running = await runServer(testbed, {
    store,
    scheduler: hastyScheduler,
    authority: {
      admit: async (...asked) => {
        const admission = await authority.admit(...asked);
        const grant = signClaimGrant(VAULT_KEY, ROOT, 3);
        const disks = admission.disks.map((disk) => (isGranted ? { ...disk, grant } : disk));
        return { ...admission, disks };
      },
    },
  });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  await sendTagged(agent, models, { slot: 1, dice });
  await untilPoint(agent, 1);
  const fence = await fenceForFailover(store, ROOT, {
    dataKey: await dataKeyOf(testbed, diskId),
    owner: uuidOfName("vault"),
    vaultKey: VAULT_KEY,
    clock: systemClock,
    randomness: systemRandomness,
  });
  assert.equal(fence.generation, 2);
  await sendTagged(agent, models, { slot: 2, dice, nth: 1 });
  await eventually("it is found", () =>
    running.server.status().health.some(({ code }) => code === "LOG_FENCED"),
  );
  const end = { session: agent.epoch, interval: 3, recordNo: 0 };
  const isFailover = { code: "LOG_FENCED", details: { kind: "failover" } };
  const fenced = (error: unknown): boolean => {
    const { code, details } = error as { code: string; details: { kind?: string } };
    assert.deepEqual({ code, details: { kind: details.kind } }, isFailover);
    return true;
  };
  await assert.rejects(agent.send(diskId, encodeChanges([{ type: "end" }], end)), fenced);
  await assert.rejects(agent.openSession([DISK], 2), fenced);
  isGranted = true;
  await agent.openSession([DISK], 3);
  models.set(DISK.identity, new ModelDisk(BLOCKS));
  await sendTagged(agent, models, { slot: 3, dice });
  await untilPoint(agent, 3);
  assert.deepEqual(
    (await offeredPoints(store, machineId)).map(({ slot }) => slot),
    [1, 3],
  );
});
