import assert from "node:assert/strict";
import { test } from "node:test";

import { MIB } from "@osr/base/units";

import { REPLICATION_LIMITS } from "./replication-limits.ts";
import {
  BIG,
  CALM,
  calmWorld,
  codesOf,
  lastReasons,
  nextPoint,
  settle,
  stop,
  upload,
} from "./testing/calm-world.contract.ts";
import { SeededRandom } from "./testing/seeded-random.ts";
import { SimulatedWorld, type WorldOptions } from "./testing/simulated-world.ts";

const SEEDS = Number(process.env["OSR_SEEDS"] ?? 80);
const SEED_FIRST = Number(process.env["OSR_SEED"] ?? 1);

/** Which faults exist in the world of a seed, and how strong. */
function optionsOf(random: SeededRandom, quietWindow: "required" | "unchecked"): WorldOptions {
  const sometimes = (chance: number, strength: number): number =>
    random.chance(chance) ? random.next() * strength : 0;
  return {
    sectors: random.chance(0.5) ? [1600] : [1601, 8 * 700],
    swap: random.chance(0.3),
    limits: random.chance(0.4)
      ? { ...REPLICATION_LIMITS, dirtyMemoryBytesMax: random.pick([0, 5000]) }
      : {
          dirtyMemoryBytesMax: MIB,
          batchBlocks: random.pick([12, 40, 512]),
          batchesHeldMax: random.pick([1, 4, 6]),
          intervalBytesMax: random.pick([1, 300_000, 1e9]),
        },
    machine: {
      writeChance: random.pick([0.02, 0.1, 0.3]),
      wildWriteChance: random.chance(0.5) ? random.pick([0.002, 0.02, 0.1, 0.6]) : 0,
      slowSyncChance: sometimes(0.3, 0.8),
      freezeFaultChance: sometimes(0.4, 0.6),
      unreadableChance: sometimes(0.2, 0.1),
    },
    link: {
      dropChance: sometimes(0.5, 0.4),
      lostReplyChance: sometimes(0.5, 0.4),
      duplicateChance: sometimes(0.5, 0.4),
      cacheFullChance: sometimes(0.3, 0.4),
      delayChance: sometimes(0.3, 0.4),
      latencyMsMax: random.pick([2, 20, 400]),
    },
    quietWindow,
  };
}

/** What happens to the process server and to the agent, in the order of the dice. */
async function trouble(world: SimulatedWorld, random: SeededRandom): Promise<void> {
  for (let step = 0; step < 12; step++) {
    await world.until(() => false, random.below(12_000));
    const dice = random.below(19);
    if (dice < 5) world.server.upload();
    else if (dice < 7) world.server.restart(true);
    else if (dice < 9) world.server.restart(false);
    else if (dice < 10) world.server.replace();
    else if (dice < 11) world.time.unixOffsetMs += (random.next() - 0.5) * 1e9;
    else if (dice < 12) await world.restartAgent();
    else if (dice < 16) await world.killAgent(random.below(random.pick([20, 200, 1500])));
    else if (dice === 16) changeDeadAddresses(world, random);
    else if (random.chance(0.5)) world.machine.loseEvents = true;
  }
}

/** One of the two process servers dies for good, or is back. */
function changeDeadAddresses({ server }: SimulatedWorld, random: SeededRandom): void {
  const { deadAddresses } = server;
  if (deadAddresses.size === 0) deadAddresses.add(random.pick(["first", "second"]));
  else deadAddresses.clear();
}

async function live(seed: number, quietWindow: "required" | "unchecked"): Promise<SimulatedWorld> {
  const random = new SeededRandom(seed * 4 + 2);
  const world = new SimulatedWorld(seed, optionsOf(random, quietWindow), settle);
  await trouble(world, random);
  return world;
}

test(`in ${SEEDS} worlds full of faults, every tag is the disks' content at one instant`, async () => {
  let points = 0;
  let tags = 0;
  for (let seed = SEED_FIRST; seed < SEED_FIRST + SEEDS; seed++) {
    const world = await live(seed, "required");
    const { machine, server } = world;
    // When everything around it is well again, replication catches up by itself.
    machine.calm();
    server.calm();
    server.deadAddresses.clear();
    const before = server.offeredPoints().length;
    const caughtUp = await world.until(() => {
      server.upload(true);
      return server.offeredPoints().length > before;
    }, 240_000);
    const repro = `OSR_SEED=${seed} OSR_SEEDS=1`;
    assert.deepEqual(world.wrongTags, [], repro);
    assert.deepEqual(server.violations, [], repro);
    assert.ok(
      caughtUp,
      `${repro}: no point although all is well: ${JSON.stringify(world.service.status())}`,
    );
    const isForgotten = (): boolean =>
      upload(world) ||
      world.service.status().disks.every(({ openIntervals }) => openIntervals <= 1);
    // That of an interval whose session was lost goes with the next one that ends.
    assert.ok(await world.until(isForgotten, 40_000), `${repro}: what is vaulted is forgotten`);
    await stop(world);
    // What a killed agent had prepared or frozen, its guard ended.
    const { prepared, released, freeze, thaw } = machine.calls;
    assert.ok(prepared - released >= 0 && prepared - released <= world.kills, repro);
    assert.ok(thaw + world.kills >= freeze, repro);
    points += server.offeredPoints().length;
    tags += world.tags;
  }
  assert.ok(points >= SEEDS && tags >= SEEDS, `${points} points, ${tags} tags`);
});

test("without the quiet window, the same comparison catches wrong points", async () => {
  let wrong = 0;
  for (let seed = 1; seed <= 60 && wrong === 0; seed++) {
    const world = await live(seed, "unchecked");
    wrong += world.wrongTags.length;
    world.machine.calm();
    world.server.calm();
    world.server.deadAddresses.clear();
    await stop(world);
  }
  assert.ok(wrong > 0);
});

test("points come every interval, and the status says what there is", async () => {
  const world = await calmWorld();
  await world.until(() => upload(world), 5 * 15_000);
  const points = world.server.offeredPoints();
  assert.ok(points.length >= 5 && points.length <= 7, String(points.length));
  const status = world.service.status();
  assert.equal(status.state, "protected");
  assert.deepEqual(status.health, []);
  assert.equal(status.pointsMissed, 0);
  assert.equal(status.newestPoint?.cutId, points.at(-1)?.cutId);
  assert.ok(status.rpoSeconds !== undefined && status.rpoSeconds <= 16);
  assert.equal(status.lastCut?.slot, points.at(-1)?.slot);
  for (const disk of status.disks)
    assert.ok(disk.progress === 1 && disk.readBytes >= disk.sizeBytes);
  const readBytes = status.disks.reduce((sum, disk) => sum + disk.readBytes, 0);
  assert.ok(world.server.dataBytes < readBytes, "zeros are not sent");
  await stop(world);
});

test("an agent that starts again sends only what changed while it did not run", async () => {
  const world = await calmWorld(BIG);
  world.machine.calm();
  await nextPoint(world);
  const readBytes = world.server.dataBytes;
  assert.ok(readBytes > 200 * 4096);
  world.server.dataBytes = 0;
  await world.restartAgent(() => world.machine.writeBlocks(0, 200));
  await world.until(() => codesOf(world).includes("AGENT_RESTARTED"), 5000);
  assert.equal(world.service.status().state, "resync");
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(lastReasons(world), ["AGENT_RESTARTED", "AGENT_RESTARTED"]);
  const [first, second] = world.service.status().disks;
  assert.equal(first?.lastResync?.differingBytes, 200 * 4096);
  assert.equal(first?.lastResync?.comparedBytes, first?.sizeBytes);
  assert.equal(second?.lastResync?.differingBytes, 0);
  const dataBytes = 200 * 4096;
  const headerBytes = 200 * 64 + 4096;
  assert.ok(
    world.server.dataBytes >= dataBytes && world.server.dataBytes <= dataBytes + headerBytes,
    `${world.server.dataBytes} bytes were sent`,
  );
  assert.deepEqual(codesOf(world), []);
  assert.equal(world.service.status().state, "protected");
  await stop(world);
});

test("an agent that is killed goes on: nothing is compared, and nothing is sent again but what was under way", async () => {
  const world = await calmWorld({ ...BIG, machine: { ...CALM.machine, writeChance: 0 } });
  await nextPoint(world);
  await world.until(() => false, 2000);
  world.server.dataBytes = 0;
  // Between two drains, without a point under way.
  world.machine.writeBlocks(0, 20);
  await world.killAgent(1, () => world.machine.writeBlocks(1, 30));
  const points = world.server.offeredPoints().length;
  await world.until(() => upload(world) || world.server.offeredPoints().length > points, 60_000);
  assert.deepEqual(lastReasons(world), [undefined, undefined]);
  assert.ok(world.server.dataBytes >= 50 * 4096, `${world.server.dataBytes} bytes were sent`);
  assert.ok(world.server.dataBytes < 50 * (4096 + 128) + 8192);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("an agent that is killed during initial replication does not begin again", async () => {
  const options = {
    ...CALM,
    sectors: [60 * 2048],
    limits: { ...REPLICATION_LIMITS, batchBlocks: 16 },
  };
  const world = new SimulatedWorld(3, options, settle);
  for (const { content } of world.machine.disks) content.fill(7);
  let sentAgain = 0;
  for (let kills = 0; kills < 5; kills++) {
    const { dataBytes } = world.server;
    await world.until(() => world.server.dataBytes > dataBytes + 5 * 2 ** 20, 60_000);
    await world.killAgent(1 + kills * 3);
    sentAgain += world.service.status().disks[0]?.sentAgainBytes ?? 0;
  }
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.ok(lastReasons(world)[0] === undefined || sentAgain > 0);
  const batchBytes = 4 * 17 * 4096;
  assert.ok(sentAgain <= 5 * batchBytes, `${sentAgain} bytes may have been sent again`);
  const again = world.server.dataBytes - 60 * 2 ** 20 * (1 + 128 / 4096);
  assert.ok(again <= 5 * batchBytes + 2 ** 20, `${again} bytes were sent again`);
  await stop(world);
});

test("a process server that forgets its sessions costs what was not acknowledged", async () => {
  const world = await calmWorld({ sectors: [40 * 2048] });
  world.machine.calm();
  await nextPoint(world);
  // The next intervals are spooled and not vaulted.
  world.machine.writeBlocks(0, 2000);
  const { tags } = world;
  await world.until(() => world.tags > tags, 60_000);
  world.server.dataBytes = 0;
  const { sessions } = world.server;
  world.server.restart(false);
  await world.until(() => world.server.sessions > sessions, 60_000);
  await nextPoint(world);
  assert.ok(world.server.dataBytes < 100 * 4096, `${world.server.dataBytes} bytes were sent`);
  assert.deepEqual(world.wrongTags, []);
  // Another one has only what is vaulted.
  world.machine.writeBlocks(0, 2000);
  const before = world.tags;
  await world.until(() => world.tags > before, 60_000);
  world.server.dataBytes = 0;
  world.server.replace();
  await nextPoint(world);
  assert.ok(world.server.dataBytes > 2000 * 4096, `${world.server.dataBytes} bytes were sent`);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("after lost events the disks are compared, points are missed for that reason and go on", async () => {
  const world = await calmWorld(BIG);
  await nextPoint(world);
  world.machine.writeBlocks(1, 30);
  world.machine.loseEvents = true;
  await world.until(() => !world.machine.loseEvents, 1000);
  assert.equal(world.service.status().state, "resync");
  assert.ok(codesOf(world).includes("TRACKING_LOST"));
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(lastReasons(world), ["TRACKING_LOST", "TRACKING_LOST"]);
  await nextPoint(world);
  assert.equal(world.service.status().state, "protected");
  await stop(world);
});

test("events lost while the disks are compared make the comparison begin again", async () => {
  const world = await calmWorld(BIG);
  world.server.faults = { ...CALM.link, latencyMsMax: 300 };
  for (let times = 0; times < 4; times++) {
    world.machine.writeBlocks(0, 60);
    world.machine.loseEvents = true;
    await world.until(() => false, 700);
  }
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("events lost while the last granule is compared make the comparison begin again, too", async () => {
  const world = await calmWorld({ sectors: [1601] });
  world.machine.calm();
  await nextPoint(world);
  world.server.faults = { ...CALM.link, latencyMsMax: 1000 };
  let losses = 0;
  world.server.beforeBlockHashes = () => {
    if (losses === 3) return;
    losses += 1;
    world.machine.writeBlocks(0, 10 + losses);
    world.machine.loseEvents = true;
  };
  await world.restartAgent(() => world.machine.writeBlocks(0, 3));
  await nextPoint(world);
  assert.equal(losses, 3);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("events lost in the middle of a cut cost the point, not the session", async () => {
  const world = await calmWorld(BIG);
  world.machine.calm();
  const { calls } = world.machine;
  const { sessions } = world.server;
  for (let times = 0; times < 5; times++) {
    world.machine.writeBlocks(0, 10);
    const { prepared } = calls;
    assert.ok(await world.until(() => upload(world) || calls.prepared > prepared, 60_000));
    await world.until(() => false, times * 4);
    for (const disk of [0, 1]) world.machine.writeBlocks(disk, 20 + times);
    world.machine.loseEvents = true;
    await world.until(() => !world.machine.loseEvents, 1000);
    await nextPoint(world);
  }
  assert.deepEqual(world.wrongTags, []);
  assert.equal(world.server.sessions, sessions);
  await stop(world);
});

test("what is in swap is no difference", async () => {
  const world = await calmWorld({ ...BIG, swap: true });
  world.machine.calm();
  await nextPoint(world);
  await world.restartAgent();
  await nextPoint(world);
  for (const { lastResync } of world.service.status().disks)
    assert.deepEqual(lastResync?.differingBytes, 0);
  await stop(world);
});

test("a write that was not traced is noticed by the kernel's count, and its disk alone compared", async () => {
  const world = await calmWorld(BIG);
  world.machine.calm();
  await nextPoint(world);
  await world.until(() => upload(world), 4000);
  world.server.dataBytes = 0;
  world.machine.missEvents = 50;
  world.machine.writeBlocks(1, 50);
  await world.until(() => codesOf(world).includes("TRACKING_MISMATCH"), 5000);
  assert.equal(world.service.status().state, "resync");
  assert.ok(world.server.dataBytes === 0);
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(lastReasons(world), [undefined, "TRACKING_MISMATCH"]);
  assert.equal(world.service.status().disks[1]?.lastResync?.differingBytes, 50 * 4096);
  await stop(world);
});

test("writes go unnoticed at the worst moments, and no tag is false", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const world = await calmWorld({ seed });
    for (let times = 0; times < 12; times++) {
      world.machine.missEvents = 1 + (times % 3);
      await world.until(() => upload(world), 3000 + seed * 100);
    }
    world.machine.missEvents = 0;
    await nextPoint(world);
    assert.deepEqual(world.wrongTags, [], `seed ${seed}`);
    assert.ok(world.service.status().disks.some(({ lastResync }) => lastResync !== undefined));
    await stop(world);
  }
});

test("a disk that has grown is compared, with the reason", async () => {
  const world = await calmWorld(BIG);
  world.machine.calm();
  await nextPoint(world);
  await world.restartAgent(() => {
    world.machine.grow(1, 5 * 2048 + 3);
    world.machine.writeBlocks(1, 40);
  });
  assert.ok(await world.until(() => codesOf(world).includes("DISK_RESIZED"), 5000));
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(lastReasons(world), ["AGENT_RESTARTED", "DISK_RESIZED"]);
  assert.equal(world.service.status().disks[1]?.lastResync?.differingBytes, 40 * 4096);
  await stop(world);
});

test("where the log cannot be read, all of the disk is copied again", async () => {
  const world = await calmWorld();
  world.server.isLogDamaged = true;
  await world.restartAgent(() => world.machine.writeBlocks(0, 20));
  world.server.dataBytes = 0;
  const isInitial = (): boolean =>
    world.service.status().disks.some(({ stage }) => stage === "initial");
  assert.ok(await world.until(() => !isInitial(), 10_000));
  assert.ok(await world.until(isInitial, 10_000));
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.ok(world.server.dataBytes > 30 * 4096, `${world.server.dataBytes} bytes were sent`);
  await stop(world);
});

test("a comparison goes on where it was when the process server comes back", async () => {
  const world = await calmWorld({ sectors: [40 * 2048] });
  world.machine.calm();
  await nextPoint(world);
  world.server.faults = { ...CALM.link, latencyMsMax: 300 };
  await world.restartAgent(() => world.machine.writeBlocks(0, 200));
  const compared = (): number => world.service.status().disks[0]?.resync?.comparedBytes ?? 0;
  assert.ok(await world.until(() => compared() >= 10 * 2 ** 20, 60_000));
  world.server.restart(false);
  const before = compared();
  await world.until(() => world.service.status().state === "connecting", 20_000);
  let hasFallenBack = false;
  const isThrough = (): boolean => {
    const { resync } = world.service.status().disks[0] ?? {};
    hasFallenBack ||= resync !== undefined && resync.comparedBytes < before;
    return resync === undefined;
  };
  assert.ok(await world.until(isThrough, 120_000));
  assert.equal(hasFallenBack, false);
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  assert.equal(world.service.status().disks[0]?.lastResync?.differingBytes, 200 * 4096);
  await stop(world);
});

test("a log that holds less than was acknowledged is compared, and says why", async () => {
  const world = await calmWorld();
  await nextPoint(world);
  world.server.rewind(0);
  assert.ok(await world.until(() => codesOf(world).includes("LOG_REWOUND"), 60_000));
  assert.equal(world.service.status().state, "resync");
  await nextPoint(world);
  assert.deepEqual(lastReasons(world), ["LOG_REWOUND", undefined]);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("a machine that has failed over is refused a session, stays critical, and goes on once it may", async () => {
  const world = await calmWorld();
  world.server.fence(0);
  await world.until(() => codesOf(world).includes("LOG_FENCED"), 60_000);
  await world.restartAgent();
  await world.until(() => world.service.status().state === "critical", 60_000);
  const { sessions, dataBytes } = world.server;
  await world.until(() => upload(world), 300_000);
  assert.deepEqual([world.server.sessions, world.server.dataBytes], [sessions, dataBytes]);
  assert.deepEqual(codesOf(world), ["LOG_FENCED"]);
  assert.equal(world.service.status().state, "critical");
  world.server.unfence();
  await nextPoint(world);
  assert.equal(world.service.status().state, "protected");
  await stop(world);
});

test("a fenced log stops its disk and all points, loudly", async () => {
  const world = await calmWorld();
  world.server.fence(1);
  await world.until(() => world.service.status().state === "critical", 60_000);
  const points = world.server.offeredPoints().length;
  await world.until(() => upload(world), 60_000);
  assert.equal(world.server.offeredPoints().length, points);
  assert.ok(codesOf(world).includes("LOG_FENCED"));
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("an outage of minutes is counted as missed points, and the next one follows at once", async () => {
  const world = await calmWorld();
  world.server.restart(true);
  world.server.downUntilMs = world.time.monotonicMs() + 180_000;
  await world.until(() => upload(world), 180_000);
  const { missedReasons } = world.service.status();
  const points = world.server.offeredPoints().length;
  assert.ok(
    await world.until(() => upload(world) || world.server.offeredPoints().length > points, 20_000),
  );
  const missed = missedReasons["PROCESS_SERVER_UNREACHABLE"] ?? 0;
  assert.ok(missed >= 10 && missed <= 12, JSON.stringify(missedReasons));
  await stop(world);
});

test("with scripts a point is app-consistent; after a failed one it is not, and says so", async () => {
  const calls: string[] = [];
  let fails = false;
  let wasFrozen = false;
  const freezable: SimulatedWorld[] = [];
  const world = await calmWorld({
    scripts: {
      pre: () => {
        calls.push("pre");
        return fails ? Promise.reject(new Error("the database said no")) : Promise.resolve();
      },
      post: () => {
        wasFrozen ||= freezable.at(0)?.machine.frozen ?? false;
        calls.push("post");
        return Promise.resolve();
      },
    },
  });
  freezable.push(world);
  assert.equal(world.server.offeredPoints().at(-1)?.class, "app");
  fails = true;
  const points = world.server.offeredPoints().length;
  await world.until(() => upload(world) || world.server.offeredPoints().length > points, 60_000);
  assert.equal(world.server.offeredPoints().at(-1)?.class, "crash");
  assert.ok(await world.until(() => codesOf(world).includes("APP_SCRIPT_FAILED"), 1000));
  assert.deepEqual(calls.slice(0, 4), ["pre", "post", "pre", "post"]);
  assert.equal(wasFrozen, false);
  await stop(world);
});
