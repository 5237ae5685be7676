import assert from "node:assert/strict";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";
import { segmentName } from "@osr/repository/object-names";
import { bodyOf } from "@osr/repository/object-store";
import { diskIdOf } from "@osr/repository/disk-id";

import { type CreateFault, FaultyStore } from "./faulty-store.contract.ts";
import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  VAULT_ID,
  eventually,
  hastyClock,
  hastyScheduler,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "faults");
const BLOCKS = 300;
const DISK = { identity: "serial:a", sizeBytes: BLOCKS * 4096 };

/** Sends one interval that ends with a tag. */
async function sendTagged(
  agent: TestAgent,
  model: ModelDisk,
  dice: Dice,
  interval: number,
): Promise<void> {
  const changes: Change[] = Array.from({ length: 20 }, () => randomChange(dice, BLOCKS));
  for (const change of changes) model.apply(change);
  changes.push({ type: "mark", tag: agent.tag(interval, [DISK.identity]) }, { type: "end" });
  const { diskId } = agent.granted(DISK.identity);
  await agent.send(diskId, encodeChanges(changes, { session: agent.epoch, interval, recordNo: 0 }));
}

test("a storage account that fails, hangs and lies loses nothing and repeats nothing", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const store = new FaultyStore(real);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const dice = new Dice(3);
  const faults: CreateFault[] = ["fails", "fails-after", "hangs", "is-deaf", "works", "works"];
  store.fault = () => faults[dice.below(faults.length)]!;
  const model = new ModelDisk(BLOCKS);
  const frozen = new Map<number, ModelDisk>();
  const first = agent.granted(DISK.identity).nextInterval;
  for (let interval = first; interval < first + 8; interval++) {
    await sendTagged(agent, model, dice, interval);
    frozen.set(interval, model.copy());
  }
  await eventually("trouble is reported", () =>
    running.server
      .status()
      .health.some(({ code }) => /STORE_UNAVAILABLE|UPLOAD_STALLED/.test(code)),
  );
  await eventually("all is vaulted", async () => {
    const { disks, newestPoint } = await agent.heartbeat();
    return disks[0]?.vaultedInterval === first + 7 && newestPoint?.slot === first + 7;
  });
  const points = await eventually("all points", async () => {
    const made = await offeredPoints(real, machineId);
    return made.length === frozen.size && made;
  });
  const disk = { machineId, identity: DISK.identity };
  for (const point of points) await comparePoint(real, point, disk, frozen.get(point.slot)!);
  await assertRepositoryIsSound(real);
  assert.deepEqual(running.server.status().health, []);
  const folder = join(testbed.spoolFolder, diskIdOf(machineId, DISK.identity), "t1");
  await eventually("the spool is empty", async () => {
    const files = await readdir(folder);
    return files.toSorted().join(" ") === "last-record.json owner.json";
  });
  assert.deepEqual(await readdir(join(testbed.spoolFolder, "points")), []);
});

test("what an unreachable storage account could not take is uploaded after a restart", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const model = new ModelDisk(BLOCKS);
  const dice = new Dice(4);
  {
    const store = new FaultyStore(real);
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    store.fault = () => "fails";
    const interval = agent.granted(DISK.identity).nextInterval;
    await sendTagged(agent, model, dice, interval);
    await sendTagged(agent, model, dice, interval + 1);
    assert.equal((await agent.heartbeat()).disks[0]?.vaultedInterval, 0);
  }
  await using running = await runServer(testbed, { store: real });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK], 2);
  assert.equal(agent.granted(DISK.identity).nextInterval, 3);
  assert.equal(agent.reply?.newestSlot, 2);
  await eventually("vaulted", async () => {
    const { disks, newestPoint } = await agent.heartbeat();
    return disks[0]?.vaultedInterval === 2 && newestPoint?.slot === 2;
  });
  const point = (await offeredPoints(real, machineId)).at(-1)!;
  await comparePoint(real, point, { machineId, identity: DISK.identity }, model);
});

test("a point that was not made before the end is made after a restart", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const other = { identity: "serial:b", sizeBytes: DISK.sizeBytes };
  const identities = [DISK.identity, other.identity];
  {
    const store = new FaultyStore(real);
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK, other]);
    // The second disk and the points do not get through; the first disk goes on past the tag.
    const second = diskIdOf(machineId, other.identity);
    store.fault = (name) =>
      name.includes(`/d/${second}/`) || name.includes("/g/") ? "fails" : "works";
    const tag = agent.tag(1, identities);
    const marked: Change[] = [{ type: "mark", tag }, { type: "end" }];
    for (const identity of identities) {
      const { diskId, nextInterval: interval } = agent.granted(identity);
      await agent.send(diskId, encodeChanges(marked, { session: 1, interval, recordNo: 0 }));
    }
    const { diskId, nextInterval } = agent.granted(DISK.identity);
    const more = encodeChanges([{ type: "end" }], {
      session: 1,
      interval: nextInterval + 1,
      recordNo: 0,
    });
    await agent.send(diskId, more);
    await eventually("the first disk is ahead", async () => {
      const { disks } = await agent.heartbeat();
      return disks.find((disk) => disk.diskId === diskId)?.vaultedInterval === nextInterval + 1;
    });
    assert.deepEqual(await offeredPoints(real, machineId), []);
  }
  await using running = await runServer(testbed, { store: real });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK, other], 2);
  assert.equal(agent.reply?.newestSlot, 1);
  const points = await eventually("the point", async () => {
    const made = await offeredPoints(real, machineId);
    return made.length > 0 && made;
  });
  assert.deepEqual(
    points.map(({ slot }) => slot),
    [1],
  );
  await assertRepositoryIsSound(real);
});

test("a process server whose log was claimed by another one stops, and says so", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const store = new FaultyStore(real);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const model = new ModelDisk(BLOCKS);
  const interval = agent.granted(DISK.identity).nextInterval;
  store.fault = () => "fails";
  await sendTagged(agent, model, new Dice(1), interval);
  // The successor has a spool of its own.
  await using successor = await runServer(testbed, {
    store: real,
    spoolFolder: join(testbed.folder, "other-spool"),
  });
  using moved = await agentOf(testbed, successor.port, machineId);
  await moved.openSession([DISK], 2);
  assert.equal(moved.granted(DISK.identity).vaultedInterval, 0);
  store.fault = () => "works";
  await eventually("the old one knows", () =>
    running.server.status().health.some(({ code }) => code === "LOG_FENCED"),
  );
  const { diskId } = agent.granted(DISK.identity);
  const batch = encodeChanges([{ type: "end" }], {
    session: 1,
    interval: interval + 1,
    recordNo: 0,
  });
  await assert.rejects(agent.send(diskId, batch), { code: "LOG_FENCED" });
  // It is told at once and dropped behind that.
  const folder = join(testbed.spoolFolder, diskId, "t1");
  await eventually("the spool is dropped", async () => (await readdir(folder)).length === 1);
  assert.deepEqual(await readdir(folder), ["owner.json"]);
  await sendTagged(moved, model, new Dice(1), moved.granted(DISK.identity).nextInterval);
  await eventually("the successor goes on", async () => {
    const { newestPoint } = await moved.heartbeat();
    return newestPoint !== undefined;
  });
  await assertRepositoryIsSound(real);
});

test("a machine that has moved is forgotten, and welcome again", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const hasty = { store, scheduler: hastyScheduler, clock: hastyClock };
  await using running = await runServer(testbed, hasty);
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const model = new ModelDisk(BLOCKS);
  await sendTagged(agent, model, new Dice(1), agent.granted(DISK.identity).nextInterval);
  await using successor = await runServer(testbed, {
    store,
    spoolFolder: join(testbed.folder, "other-spool"),
  });
  using moved = await agentOf(testbed, successor.port, machineId);
  await moved.openSession([DISK], 2);
  const { diskId, nextInterval } = agent.granted(DISK.identity);
  const late = { session: 1, interval: nextInterval + 1, recordNo: 0 };
  const data: Change = { type: "data", block: 0, content: Buffer.alloc(4096, 1) };
  await agent.send(diskId, encodeChanges([data, { type: "end" }], late));
  await eventually("the old one knows", () =>
    running.server.status().health.some(({ code }) => code === "LOG_FENCED"),
  );
  await eventually("the old one has forgotten", () => {
    const { health, machines } = running.server.status();
    return health.length + machines.length === 0;
  });
  await assert.rejects(agent.heartbeat(), { code: "SESSION_REPLACED" });

  await sendTagged(moved, model, new Dice(2), moved.granted(DISK.identity).nextInterval);
  await eventually("the successor goes on", async () => {
    const { newestPoint } = await moved.heartbeat();
    return newestPoint?.slot === moved.granted(DISK.identity).nextInterval;
  });
  await agent.openSession([DISK], 3);
  const back = agent.granted(DISK.identity);
  await sendTagged(agent, model, new Dice(3), back.nextInterval);
  const point = await eventually("a point of the old one", async () => {
    const points = await offeredPoints(store, machineId);
    return points.find(({ slot }) => slot === back.nextInterval);
  });
  await comparePoint(store, point, { machineId, identity: DISK.identity }, model);
  await assertRepositoryIsSound(store);
});

test("a name in the log that somebody without the keys took is reported as tampering", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const { diskId, nextInterval } = agent.granted(DISK.identity);
  const squatted = segmentName({ vaultId: VAULT_ID, diskId, timeline: 1 }, 2);
  await store.create(squatted, bodyOf(Buffer.alloc(1000, 1)));
  await sendTagged(agent, new ModelDisk(BLOCKS), new Dice(1), nextInterval);
  await eventually("it is reported", () =>
    running.server.status().health.some(({ code }) => code === "LOG_TAMPERED"),
  );
});

test("a spool whose disk gives other bytes than were written is dropped, not uploaded", async () => {
  await using testbed = await openTestbed();
  const real = await openStore(testbed.storeFolder);
  const store = new FaultyStore(real);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const { diskId, nextInterval } = agent.granted(DISK.identity);
  store.fault = () => "fails";
  await sendTagged(agent, new ModelDisk(BLOCKS), new Dice(1), nextInterval);
  const folder = join(testbed.spoolFolder, diskId, "t1");
  const name = (await readdir(folder)).find((file) => file.endsWith(".seg"))!;
  const bytes = await readFile(join(folder, name));
  bytes[5000]! ^= 1;
  await writeFile(join(folder, name), bytes);
  store.fault = () => "works";
  await eventually("the damage is found", () =>
    running.server.status().health.some(({ code }) => code === "SPOOL_DAMAGED"),
  );
  const end = encodeChanges([{ type: "end" }], {
    session: 1,
    interval: nextInterval + 1,
    recordNo: 0,
  });
  await assert.rejects(agent.send(diskId, end), { code: "SESSION_REPLACED" });
  await agent.openSession([DISK], 2);
  const model = new ModelDisk(BLOCKS);
  await sendTagged(agent, model, new Dice(2), agent.granted(DISK.identity).nextInterval);
  const points = await eventually("the point", async () => {
    const made = await offeredPoints(real, machineId);
    return made.length > 0 && made;
  });
  await comparePoint(real, points[0]!, { machineId, identity: DISK.identity }, model);
  await assertRepositoryIsSound(real);
});
