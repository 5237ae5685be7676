import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { systemClock } from "@osr/base/platform/system-clock";
import { systemRandomness } from "@osr/base/platform/system-randomness";
import { MINUTE_MS } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";

import { type TestPostgres, startTestPostgres } from "../testing/test-database.ts";
import { testMachine } from "../testing/test-fabric.ts";
import { ITEM, type Life, enable, newLife } from "../testing/test-life.ts";
import { watchHeartbeats } from "./heartbeats.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

async function heartbeatEvents(life: Life): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const { properties } of life.sr.replicationEvents.list("vault", "rg"))
    if (properties?.eventCode?.startsWith("HEARTBEAT_") === true)
      found.push(
        [properties.eventCode, properties.severity, properties.affectedObjectFriendlyName].join(),
      );
  return found.toReversed();
}

test("heartbeats of agents and servers that are lost and come back are events, once each; behind a silent fabric nothing is said", async () => {
  await using life = await newLife(postgres);
  await enable(life);
  const startMs = systemClock.unixMs();
  const at = async (minutes: number): Promise<readonly string[]> => {
    const clock = { unixMs: () => startMs + minutes * MINUTE_MS, monotonicMs: () => 0 };
    const ports = { database: life.vault.open.database, randomness: systemRandomness, clock };
    await watchHeartbeats(ports);
    await watchHeartbeats(ports);
    return heartbeatEvents(life);
  };
  const id = randomUuid(systemRandomness);
  const facts = {
    hostName: "ps01",
    version: "1.0",
    certificateExpiresUnixMs: startMs + 1e9,
    cacheFreePermille: 900,
    cpuPermille: 100,
    memoryPermille: 100,
    pendingUploadBytes: 0,
    protectedMachines: 0,
    health: [],
  };
  /** The configuration server is heard of now; the others were at these times. */
  const report = (machineMs: number, serverMs: number): Promise<unknown> =>
    life.fabric.report({
      machines: [{ ...testMachine(life.machineId, ITEM), lastSeenUnixMs: machineMs }],
      gateways: [{ id, role: "process-server", lastSeenUnixMs: serverMs, facts }],
    });
  await report(startMs, startMs);
  assert.deepEqual(await at(0), []);
  await report(startMs - 20 * MINUTE_MS, startMs - 16 * MINUTE_MS);
  const lost = ["HEARTBEAT_LOST,Error,ps01", "HEARTBEAT_LOST,Error,web01"];
  assert.deepEqual((await at(0)).toSorted(), lost);
  const silent = [...lost, "HEARTBEAT_LOST,Error,berlin"].toSorted();
  assert.deepEqual((await at(20)).toSorted(), silent);
  await report(startMs, startMs - 16 * MINUTE_MS);
  // The configuration server was started again, and has not heard of the machine since.
  const { lastSeenUnixMs: _, ...unheard } = testMachine(life.machineId, ITEM);
  await life.fabric.report({ machines: [unheard], isWhole: false });
  const back = ["HEARTBEAT_BACK,Info,berlin", "HEARTBEAT_BACK,Info,web01"];
  assert.deepEqual((await at(0)).toSorted(), [...back, ...silent].toSorted());
  assert.equal((await life.details()).lastHeartbeat?.getTime(), Math.floor(startMs));
});
