import assert from "node:assert/strict";

import { REPLICATION_LIMITS } from "../replication-limits.ts";
import { SimulatedWorld, type WorldOptions } from "./simulated-world.ts";

export const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

export const CALM: WorldOptions = {
  sectors: [1601, 800],
  swap: false,
  limits: REPLICATION_LIMITS,
  machine: {
    writeChance: 0.1,
    wildWriteChance: 0,
    slowSyncChance: 0,
    freezeFaultChance: 0,
    unreadableChance: 0,
  },
  link: {
    dropChance: 0,
    lostReplyChance: 0,
    duplicateChance: 0,
    cacheFullChance: 0,
    delayChance: 0,
    latencyMsMax: 3,
  },
  quietWindow: "required",
};

export async function calmWorld({
  seed = 1,
  ...more
}: Partial<WorldOptions> & { readonly seed?: number } = {}): Promise<SimulatedWorld> {
  const world = new SimulatedWorld(seed, { ...CALM, ...more }, settle);
  const hasPoint = await world.until(
    () => world.server.offeredPoints().length > 0 || upload(world),
    60_000,
  );
  assert.ok(hasPoint);
  return world;
}

export function upload(world: SimulatedWorld): false {
  world.server.upload(true);
  return false;
}

export const codesOf = (world: SimulatedWorld): string[] =>
  world.service.status().health.map(({ code }) => code);

export const BIG = { sectors: [4 * 2048 + 9, 3 * 2048] } as const;

/** Runs until a point is offered that was cut after now. */
export async function nextPoint(world: SimulatedWorld): Promise<void> {
  const points = world.server.offeredPoints().length;
  const isMade = (): boolean => upload(world) || world.server.offeredPoints().length > points;
  assert.ok(await world.until(isMade, 60_000), JSON.stringify(world.service.status()));
}

export async function stop(world: SimulatedWorld): Promise<void> {
  let isStopped = false;
  void world.service.stop().finally(() => (isStopped = true));
  assert.ok(await world.until(() => isStopped, 60_000), "the agent stops");
  await world.running;
  assert.equal(world.service.status().state, "stopped");
}

export const lastReasons = (world: SimulatedWorld): (string | undefined)[] =>
  world.service.status().disks.map(({ lastResync }) => lastResync?.reason);
