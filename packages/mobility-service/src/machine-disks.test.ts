import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BIG,
  CALM,
  calmWorld,
  codesOf,
  lastReasons,
  nextPoint,
  stop,
  upload,
} from "./testing/calm-world.contract.ts";

test("a disk that is attached meanwhile is copied by itself, and points are made without it until then", async () => {
  const world = await calmWorld();
  await nextPoint(world);
  world.server.faults = { ...CALM.link, latencyMsMax: 4000 };
  world.machine.attach(9 * 2048 + 5);
  world.machine.writeBlocks(2, 2000);
  assert.ok(await world.until(() => world.service.status().disks.length === 3, 30_000));
  const stage = (): unknown => world.service.status().disks[2]?.stage;
  const disksOfNewest = (): number => world.server.offeredPoints().at(-1)?.disks.length ?? 0;
  const points = world.server.offeredPoints().length;
  const isMade = (): boolean => upload(world) || world.server.offeredPoints().length > points;
  assert.ok(await world.until(isMade, 60_000), JSON.stringify(world.service.status()));
  assert.equal(disksOfNewest(), 2);
  assert.equal(stage(), "initial");
  assert.equal(world.service.status().state, "protected");
  world.server.calm();
  assert.ok(await world.until(() => upload(world) || disksOfNewest() === 3, 120_000));
  assert.equal(stage(), "delta");
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(world.service.status().missedReasons, {});
  assert.deepEqual(lastReasons(world), [undefined, undefined, undefined]);
  await stop(world);
});

test("a disk that vanishes is critical and points are missed; the others go on, and it may come back", async () => {
  const world = await calmWorld(BIG);
  await nextPoint(world);
  world.machine.detach(1);
  assert.ok(await world.until(() => codesOf(world).includes("DISK_VANISHED"), 10_000));
  assert.equal(world.service.status().state, "critical");
  const points = world.server.offeredPoints().length;
  const { sentBytes = 0 } = world.service.status().disks[0] ?? {};
  world.machine.writeBlocks(0, 2000);
  await world.until(() => upload(world), 60_000);
  assert.equal(world.server.offeredPoints().length, points);
  assert.ok((world.service.status().missedReasons["DISK_VANISHED"] ?? 0) >= 3);
  assert.ok(sentBytes > 0);
  world.machine.reattach(1);
  world.machine.writeBlocks(1, 25);
  await nextPoint(world);
  assert.equal(world.server.offeredPoints().at(-1)?.disks.length, 2);
  assert.deepEqual(world.wrongTags, []);
  const returned = world.service.status().disks.at(-1);
  assert.equal(returned?.lastResync?.reason, "DISK_CHANGED");
  assert.ok((returned?.lastResync?.differingBytes ?? 0) >= 25 * 4096);
  assert.ok(await world.until(() => codesOf(world).length === 0, 1000));
  await stop(world);
});

test("a disk that is left out later leaves alone, and one that is taken in again is compared alone", async () => {
  const world = await calmWorld(BIG);
  await nextPoint(world);
  const identity = world.machine.disks[1]?.disk.identity ?? "";
  const before = world.service.status().disks[0];
  world.machine.leftOut.add(identity);
  world.machine.writeBlocks(1, 300);
  assert.ok(await world.until(() => world.service.status().disks.length === 1, 30_000));
  await nextPoint(world);
  assert.equal(world.service.status().state, "protected");
  assert.equal(world.server.offeredPoints().at(-1)?.disks.length, 1);
  world.machine.writeBlocks(1, 25);
  world.machine.leftOut.delete(identity);
  const disksOfNewest = (): number => world.server.offeredPoints().at(-1)?.disks.length ?? 0;
  assert.ok(await world.until(() => upload(world) || disksOfNewest() === 2, 120_000));
  const [first, returned] = world.service.status().disks;
  assert.equal(returned?.lastResync?.reason, "DISK_CHANGED");
  const differingBytes = returned?.lastResync?.differingBytes ?? 0;
  assert.ok(differingBytes >= 25 * 4096 && differingBytes < (returned?.sizeBytes ?? 0));
  assert.deepEqual([before?.lastResync, first?.lastResync], [undefined, undefined]);
  assert.deepEqual(world.wrongTags, []);
  assert.deepEqual(world.service.status().missedReasons, {});
  await stop(world);
});

test("the last disk of a machine is not left out", async () => {
  const world = await calmWorld(BIG);
  for (const { disk } of world.machine.disks) world.machine.leftOut.add(disk.identity);
  await nextPoint(world);
  await world.until(() => upload(world), 20_000);
  assert.equal(world.service.status().disks.length, 2);
  await stop(world);
});

test("a disk that grows while the agent runs is compared at its new size", async () => {
  const world = await calmWorld(BIG);
  await nextPoint(world);
  const sectors = 5 * 2048 + 3;
  world.machine.grow(1, sectors);
  world.machine.writeBlocks(1, 200);
  const isKnown = (): boolean =>
    world.service.status().disks.some(({ sizeBytes }) => sizeBytes === sectors * 512);
  assert.ok(await world.until(isKnown, 30_000));
  await nextPoint(world);
  assert.equal(world.service.status().disks[1]?.lastResync?.reason, "DISK_RESIZED");
  const sizes = world.server.offeredPoints().at(-1)?.diskBytes ?? [];
  assert.deepEqual(
    sizes.toSorted((one, other) => one - other),
    [BIG.sectors[0] * 512, sectors * 512].toSorted((one, other) => one - other),
  );
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("disks come and go at the worst moments, and no tag is false", async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const world = await calmWorld({ ...BIG, seed });
    for (let times = 0; times < 3; times++) {
      await world.until(() => upload(world), 5000 + seed * 700);
      world.machine.detach(times % 2);
      await world.until(() => upload(world), (seed % 4) * 3000);
      world.machine.reattach(times % 2);
      world.machine.writeBlocks(times % 2, 10);
    }
    await world.until(() => upload(world), 30_000);
    await nextPoint(world);
    assert.deepEqual(world.wrongTags, [], `seed ${seed}`);
    assert.deepEqual(world.server.violations, [], `seed ${seed}`);
    await stop(world);
  }
});

test("where a writer bypasses the file systems, the point is fuzzy: recorded, missed, and never offered", async () => {
  const world = await calmWorld();
  await nextPoint(world);
  const points = world.server.offeredPoints().length;
  world.machine.faults = { ...world.machine.faults, wildWriteChance: 1 };
  const isMissed = (): boolean =>
    upload(world) || (world.service.status().missedReasons["NOT_QUIET"] ?? 0) >= 2;
  assert.ok(await world.until(isMissed, 120_000), JSON.stringify(world.service.status()));
  assert.equal(world.server.offeredPoints().length, points);
  await world.until(() => upload(world), 1000);
  assert.ok(world.server.fuzzyTags > 0);
  world.machine.calm();
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});

test("a point whose swap areas changed meanwhile is missed and tried again", async () => {
  const world = await calmWorld({ swap: true });
  await nextPoint(world);
  world.machine.isSwapStale = true;
  const isMissed = (): boolean =>
    upload(world) || (world.service.status().missedReasons["SWAP_CHANGED"] ?? 0) > 0;
  const look = world.machine.look.bind(world.machine);
  world.machine.look = () => Promise.resolve({ appeared: [], vanished: [] });
  assert.ok(await world.until(isMissed, 60_000));
  world.machine.look = look;
  await nextPoint(world);
  assert.deepEqual(world.wrongTags, []);
  await stop(world);
});
