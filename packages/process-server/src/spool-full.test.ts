import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFile, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { hasCode } from "@osr/base/errors";
import { type Log, silentLog } from "@osr/base/log";
import { MIB } from "@osr/base/units";
import { uuidOfName } from "@osr/base/uuid";

import { FaultyStore } from "./faulty-store.contract.ts";
import { ModelDisk } from "./model-disk.contract.ts";
import type { ProcessServerStatus } from "./process-server.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  type ServerOptions,
  type Testbed,
  eventually,
  hastyScheduler,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const run = promisify(execFile);
const machineId = uuidOfName("machine", "full");
const BLOCKS = 4096;
const DISK = { identity: "serial:a", sizeBytes: BLOCKS * 4096 };
const RECORD_BLOCKS = 256;

/** Noise, which does not compress: the cache fills as fast as the agent sends. */
function noise(block: number): Change {
  return { type: "data", block, content: randomBytes(RECORD_BLOCKS * 4096) };
}

/**
 * Sends batches of `recordsPerBatch` MiB until the cache is full, then lets the store work and sends the rest; what was
 * refused is sent again, as an agent does. The point at the end must hold all of it.
 */
async function fillAndDrain(
  testbed: Testbed,
  options: Omit<ServerOptions, "store">,
  recordsPerBatch: number,
  onFirstRefusal: (status: ProcessServerStatus) => void = () => undefined,
): Promise<void> {
  const real = await openStore(testbed.storeFolder);
  const store = new FaultyStore(real);
  const scheduler = hastyScheduler;
  await using running = await runServer(testbed, { ...options, store, scheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  store.fault = () => "fails";
  const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
  const model = new ModelDisk(BLOCKS);
  let recordNo = 0;
  let refusals = 0;
  let isFirst = true;
  for (let first = 0; first < BLOCKS; first += RECORD_BLOCKS * recordsPerBatch) {
    const changes: Change[] = [];
    for (let n = 0; n < recordsPerBatch; n++) changes.push(noise(first + n * RECORD_BLOCKS));
    for (const change of changes) model.apply(change);
    const place = { session: agent.epoch, interval, recordNo };
    refusals += await sendStubbornly(agent, diskId, encodeChanges(changes, place), () => {
      // The same batch may be refused again while the cache drains.
      if (isFirst) onFirstRefusal(running.server.status());
      isFirst = false;
      store.fault = () => "works";
    });
    recordNo += changes.length;
  }
  assert.ok(refusals > 0, "the cache was full at least once");
  const end: Change[] = [{ type: "mark", tag: agent.tag(1, [DISK.identity]) }, { type: "end" }];
  await sendStubbornly(
    agent,
    diskId,
    encodeChanges(end, { session: agent.epoch, interval, recordNo }),
    () => undefined,
  );
  const points = await eventually("the point", async () => {
    const made = await offeredPoints(real, machineId);
    return made.length > 0 && made;
  });
  await comparePoint(real, points[0]!, { machineId, identity: DISK.identity }, model);
  await assertRepositoryIsSound(real);
}

/** How often the batch was refused for lack of room before it was taken. */
async function sendStubbornly(
  agent: TestAgent,
  diskId: ReturnType<typeof uuidOfName>,
  batch: Buffer,
  onRefused: () => void,
): Promise<number> {
  let refusals = 0;
  await eventually("the batch is taken", async () => {
    try {
      await agent.send(diskId, Buffer.from(batch));
      return true;
    } catch (error) {
      if (!hasCode(error, PROCESS_SERVER_ERRORS.CACHE_FULL)) throw error;
      assert.equal((error.details as { retryAfterMs: number }).retryAfterMs, 5000);
      onRefused();
      refusals += 1;
      return false;
    }
  });
  return refusals;
}

test("below 20 % of its limit the cache takes nothing until there is room", async () => {
  await using testbed = await openTestbed();
  await fillAndDrain(testbed, { cacheBytes: 8 * MIB }, 1, ({ cache, health }) => {
    assert.equal(cache.level, "throttled");
    assert.ok(health.some(({ code }) => code === "CACHE_THROTTLED"));
  });
});

test("a file system that is really full loses nothing", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("mounting a tmpfs needs root");
  await using testbed = await openTestbed();
  const spoolFolder = join(testbed.folder, "small");
  await mkdir(spoolFolder);
  await run("mount", ["-t", "tmpfs", "-o", "size=11m", "osr-test", spoolFolder]);
  try {
    // After two batches of 4 MiB more than 20 % of 11 MiB are free: the third is let in and does not fit.
    const errors: string[] = [];
    const log: Log = { ...silentLog, error: (message) => errors.push(message), child: () => log };
    await fillAndDrain(testbed, { spoolFolder, log }, 4);
    assert.ok(errors.includes("a batch could not be spooled"), errors.join());
  } finally {
    await run("umount", [spoolFolder]);
  }
});

test("a file system without a byte left does not keep back what would make room", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("mounting a tmpfs needs root");
  await using testbed = await openTestbed();
  const spoolFolder = join(testbed.folder, "small");
  await mkdir(spoolFolder);
  await run("mount", ["-t", "tmpfs", "-o", "size=11m", "osr-test", spoolFolder]);
  try {
    const real = await openStore(testbed.storeFolder);
    const store = new FaultyStore(real);
    const warnings: string[] = [];
    const log: Log = { ...silentLog, warn: (message) => warnings.push(message), child: () => log };
    const options = { store, spoolFolder, log, scheduler: hastyScheduler };
    await using running = await runServer(testbed, options);
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    store.fault = () => "fails";
    const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
    const model = new ModelDisk(BLOCKS);
    const changes = [noise(0), noise(RECORD_BLOCKS)];
    for (const change of changes) model.apply(change);
    changes.push({ type: "mark", tag: agent.tag(1, [DISK.identity]) }, { type: "end" });
    await agent.send(
      diskId,
      encodeChanges(changes, { session: agent.epoch, interval, recordNo: 0 }),
    );
    const filler = join(spoolFolder, "filler");
    for (const bytes of [MIB, 4096]) while (await appended(filler, Buffer.alloc(bytes, 1)));
    store.fault = () => "works";
    const points = await eventually("the point", async () => {
      const made = await offeredPoints(real, machineId);
      return made.length > 0 && made;
    });
    await comparePoint(real, points[0]!, { machineId, identity: DISK.identity }, model);
    assert.ok(warnings.includes("a tag is not noted in the spool"), warnings.join());
    await eventually("the segment made room", async () => {
      const files = await readdir(join(spoolFolder, diskId, "t1"));
      return !files.some((file) => file.endsWith(".seg"));
    });
  } finally {
    await run("umount", [spoolFolder]);
  }
});

/** False where there was no room for all of it. */
async function appended(file: string, bytes: Buffer): Promise<boolean> {
  try {
    await appendFile(file, bytes);
    return true;
  } catch {
    return false;
  }
}

test("a cache that cannot be written refuses batches, and takes them when it can", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
  const folder = join(testbed.spoolFolder, diskId, "t1");
  const batch = encodeChanges([noise(0), { type: "end" }], { session: 1, interval, recordNo: 0 });
  await rename(folder, `${folder}-away`);
  await assert.rejects(agent.send(diskId, Buffer.from(batch)), { code: "SPOOL_FAILED" });
  await rename(`${folder}-away`, folder);
  await eventually("the batch is taken", () =>
    agent.send(diskId, Buffer.from(batch)).catch(() => false as const),
  );
  await eventually("vaulted", async () => {
    const { disks } = await agent.heartbeat();
    return disks[0]?.vaultedInterval === interval;
  });
  assert.deepEqual(running.server.status().health, []);
});
