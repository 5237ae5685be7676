import assert from "node:assert/strict";
import { test } from "node:test";

import { MINUTE_MS } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";
import { STORE_ERRORS } from "@osr/repository/object-store";

import { FaultyStore } from "./faulty-store.contract.ts";
import { LoadWatch } from "./load-watch.ts";
import { healthOf } from "./role-health.ts";
import { agentOf } from "./site-checks.contract.ts";
import { encodeChanges } from "./test-agent.contract.ts";
import { eventually, openStore, openTestbed, runServer } from "./testbed.contract.ts";

const WELL = {
  level: "normal",
  freeShare: 1,
  streams: [],
  refusedPoints: [],
  uploadBytesPerSecond: undefined,
  load: undefined,
  silentMachines: [],
} as const;
const codes = (facts: object): string[] =>
  healthOf({ ...WELL, ...facts }).map(({ code, message, hint }) => {
    assert.ok(message.length > 0 && hint.length > 0);
    return code;
  });

test("each threshold has its code; below it there is none", () => {
  assert.deepEqual(codes({}), []);
  assert.deepEqual(codes({ level: "warning", freeShare: 0.29 }), ["CACHE_FREE_WARNING"]);
  assert.deepEqual(codes({ level: "critical", freeShare: 0.24 }), ["CACHE_FREE_CRITICAL"]);
  assert.deepEqual(codes({ level: "throttled", freeShare: 0.1 }), ["CACHE_THROTTLED"]);
  assert.deepEqual(codes({ load: { cpu: 0.8, memory: 0.8 } }), []);
  assert.deepEqual(codes({ load: { cpu: 0.81, memory: 0.96 } }), [
    "CPU_WARNING",
    "MEMORY_CRITICAL",
  ]);
  assert.deepEqual(codes({ load: { cpu: 0.96, memory: 0.81 } }), [
    "CPU_CRITICAL",
    "MEMORY_WARNING",
  ]);
  const pending = (minutes: number): object => ({
    uploadBytesPerSecond: 1000,
    streams: [{ status: { pendingUploadBytes: minutes * 60_000 }, keys: { log: {} } }],
  });
  assert.deepEqual(codes(pending(30)), []);
  assert.deepEqual(codes(pending(31)), ["DRAIN_TIME_WARNING"]);
  assert.deepEqual(codes(pending(46)), ["DRAIN_TIME_CRITICAL"]);
  const silent = (minutes: number): object => ({
    silentMachines: [{ name: "web", silentMs: minutes * MINUTE_MS }],
  });
  assert.deepEqual(codes(silent(15)), []);
  assert.deepEqual(codes(silent(16)), ["MACHINE_SILENT"]);
});

test("load counts once a quarter of an hour was watched, and peaks are evened out", () => {
  const watch = new LoadWatch();
  for (let minute = 0; minute < 14; minute++)
    watch.sample({ cpu: 1, memory: 0 }, minute * MINUTE_MS);
  assert.equal(watch.mean, undefined);
  watch.sample({ cpu: 1, memory: 0 }, 14 * MINUTE_MS);
  watch.sample({ cpu: 0, memory: 1 }, 14.5 * MINUTE_MS);
  assert.ok(Math.abs(watch.mean!.cpu - 14.5 / 15) < 1e-9);
  for (let minute = 15; minute < 30; minute++)
    watch.sample({ cpu: 0.5, memory: 0 }, minute * MINUTE_MS);
  assert.deepEqual(watch.mean, { cpu: 0.5, memory: 0 });
});

test("what is wrong at either end is in the metrics, and the agent hears what concerns it", async () => {
  const machineId = uuidOfName("machine", "health");
  const DISK = { identity: "serial:a", sizeBytes: 400 * 4096 };
  await using testbed = await openTestbed();
  const store = new FaultyStore(await openStore(testbed.storeFolder));
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  using other = await agentOf(testbed, running.port, uuidOfName("machine", "well"));
  await agent.openSession([DISK]);
  await other.openSession([DISK]);
  store.fault = () => "fails";
  const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
  const changes = [
    { type: "data", block: 1, content: Buffer.alloc(4096, 7) },
    { type: "end" },
  ] as const;
  await agent.send(diskId, encodeChanges(changes, { session: 1, interval, recordNo: 0 }));
  const report = {
    health: [{ code: "TRACKING_LOST", message: "m", hint: "h", diskId }],
    disks: [{ diskId, readBytes: 4096, sentBytes: 4200, dirtyBytes: 8192, comparedBytes: 1 }],
  };
  const beat = await eventually("the fault is told", async () => {
    const reply = await agent.heartbeat(agent.epoch, report);
    return (reply.health ?? []).length > 0 && reply;
  });
  assert.deepEqual(
    beat.health?.map((entry) => [entry.code, entry.hint, entry.diskId]),
    [["STORE_UNAVAILABLE", STORE_ERRORS.STORE_UNAVAILABLE.hint, diskId]],
  );
  assert.ok((beat.bytes?.[0]?.pendingUploadBytes ?? 0) > 0 && beat.bytes?.[0]?.vaultedBytes === 0);
  assert.deepEqual((await other.heartbeat()).health, []);
  const metrics = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${running.metricsPort}/metrics`)).text();
  const then = await metrics();
  const own = `code="STORE_UNAVAILABLE",source="process-server",machine="",disk="${diskId}"`;
  const theirs = `code="TRACKING_LOST",source="mobility-service",machine="${machineId}",disk="${diskId}"`;
  for (const labels of [own, theirs])
    assert.ok(then.includes(`osr_process_server_health{${labels}} 1`), labels);
  for (const [name, value] of [
    ["disk_read_bytes", 4096],
    ["disk_sent_bytes", 4200],
    ["disk_dirty_bytes", 8192],
    ["resync_compared_bytes", 1],
    ["disk_vaulted_bytes", 0],
  ] as const)
    assert.ok(then.includes(`osr_process_server_${name}{disk="${diskId}"} ${value}`), name);
  assert.match(then, /osr_process_server_disk_spooled_bytes\{disk="[^"]+"\} [1-9]/);

  store.fault = () => "works";
  await eventually("all is well again", async () => {
    const { health, bytes } = await agent.heartbeat();
    return health?.length === 0 && (bytes?.[0]?.vaultedBytes ?? 0) > 0;
  });
  assert.doesNotMatch(await metrics(), /osr_process_server_health\{/);
  assert.deepEqual(running.server.status().health, []);
});
