import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { uuidOfName } from "@osr/base/uuid";
import { parseJson } from "@osr/base/json-shape";
import { type ComparisonReply, comparisonReplyShape, routes } from "@osr/contracts/agent-protocol";
import {
  ComparisonHasher,
  GRANULES_PER_REQUEST_MAX,
  GRANULE_BYTES,
  granulesOf,
} from "@osr/contracts/disk-comparison";
import type { ObjectStore } from "@osr/repository/object-store";

import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import { agentOf } from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  eventually,
  hastyScheduler,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "compared");
/** Five granules, the last one cut short; within a block, too. */
const BLOCKS = 4 * 256 + 100;
const DISK = { identity: "serial:a", sizeBytes: BLOCKS * BLOCK_BYTES - 512 };
const ZEROS_ONLY = 2;

async function open(agent: TestAgent, identity = DISK.identity): Promise<ComparisonReply> {
  const { diskId } = agent.granted(identity);
  const body = Buffer.from(JSON.stringify({ epoch: agent.epoch }));
  const reply = await agent.client.request({
    method: "POST",
    path: routes.comparison(diskId),
    body,
  });
  return parseJson(reply.body.toString(), comparisonReplyShape);
}

const get = async (agent: TestAgent, path: string): Promise<Buffer> =>
  (await agent.client.request({ method: "GET", path })).body;

async function hashesOf(agent: TestAgent, headSeq: number): Promise<Buffer> {
  const { diskId } = agent.granted(DISK.identity);
  const count = GRANULES_PER_REQUEST_MAX;
  const at = { headSeq, epoch: agent.epoch, granule: 0, count };
  return await get(agent, routes.granuleHashes(diskId, at));
}

/** Changes that leave granule ZEROS_ONLY alone. */
function changesOf(dice: Dice): Change[] {
  const touches = (change: Change): boolean => {
    if (change.type !== "data" && change.type !== "zero") return false;
    const count = change.type === "zero" ? change.count : change.content.length / BLOCK_BYTES;
    return change.block < (ZEROS_ONLY + 1) * 256 && change.block + count > ZEROS_ONLY * 256;
  };
  const changes = Array.from({ length: 60 }, () => randomChange(dice, BLOCKS));
  const last = { type: "data", block: BLOCKS - 1, content: Buffer.alloc(BLOCK_BYTES, 7) } as const;
  return [...changes.filter((change) => !touches(change)), last];
}

async function send(agent: TestAgent, changes: readonly Change[], interval: number): Promise<void> {
  const { diskId } = agent.granted(DISK.identity);
  const place = { session: agent.epoch, interval, recordNo: 0 };
  await agent.send(diskId, encodeChanges(changes, place));
}

/** The model's content, padded to whole granules. */
function contentOf(changes: readonly Change[]): Buffer {
  const content = Buffer.alloc(granulesOf(DISK.sizeBytes) * GRANULE_BYTES);
  for (const change of changes)
    if (change.type === "data") change.content.copy(content, change.block * BLOCK_BYTES);
    else if (change.type === "zero")
      content.fill(0, change.block * BLOCK_BYTES, (change.block + change.count) * BLOCK_BYTES);
  return content;
}

const granuleOf = (content: Buffer, granule: number): Buffer =>
  content.subarray(granule * GRANULE_BYTES, (granule + 1) * GRANULE_BYTES);

/** Counts what is read of each object. */
function counted(store: ObjectStore): ObjectStore & { reads: number; isDamaged: boolean } {
  const counting = {
    reads: 0,
    isDamaged: false,
    create: store.create.bind(store),
    head: store.head.bind(store),
    readStart: store.readStart.bind(store),
    list: store.list.bind(store),
    delete: store.delete.bind(store),
    read: async (...args: Parameters<ObjectStore["read"]>) => {
      counting.reads += 1;
      await store.read(...args);
      const [, , target] = args;
      if (counting.isDamaged) target[target.length - 1]! ^= 1;
    },
  };
  return counting;
}

test("what was only spooled is uploaded first, and all hashes are those of the model", async () => {
  await using testbed = await openTestbed();
  const store = counted(await openStore(testbed.storeFolder));
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  const first = await agent.openSession([DISK]);
  assert.equal(first.disks[0]?.history, undefined);
  const dice = new Dice(3);
  const changes = changesOf(dice);
  const model = new ModelDisk(BLOCKS);
  for (const change of changes) model.apply(change);
  // The interval is left open: what it has counts all the same.
  await send(agent, changes, 1);
  const again = await agent.openSession([DISK]);
  assert.deepEqual(again.disks[0]?.history, { sizeBytes: DISK.sizeBytes });
  const { headSeq, blockCount, key } = await open(agent);
  assert.equal(blockCount, BLOCKS);
  const hasher = new ComparisonHasher(Buffer.from(key, "hex"));
  const content = contentOf(changes);
  const granules = granulesOf(DISK.sizeBytes);
  const expected = Array.from({ length: granules }, (_, granule) =>
    hasher.granule(granuleOf(content, granule)),
  );
  assert.deepEqual(await hashesOf(agent, headSeq), Buffer.concat(expected));
  const { diskId } = agent.granted(DISK.identity);
  for (let granule = 0; granule < granules; granule++) {
    const readsBefore = store.reads;
    const at = { headSeq, epoch: agent.epoch, granule };
    const blocks = await get(agent, routes.blockHashes(diskId, at));
    assert.deepEqual(blocks, hasher.blocks(granuleOf(content, granule)));
    if (granule === ZEROS_ONLY) assert.equal(store.reads, readsBefore, "zeros are not read");
  }
  // Asked again, the same head is still the same comparison.
  assert.deepEqual(await open(agent), { headSeq, blockCount, key });
  const last = { headSeq, epoch: agent.epoch, granule: granules - 1, count: 1 };
  assert.deepEqual(await get(agent, routes.granuleHashes(diskId, last)), expected.at(-1));
});

test("a disk that has grown is compared at its new size: what the log does not have is zero", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  const changes = changesOf(new Dice(6));
  await send(agent, [...changes, { type: "end" }], 1);
  const sizeBytes = DISK.sizeBytes + 3 * GRANULE_BYTES + 512;
  const { disks } = await agent.openSession([{ ...DISK, sizeBytes }]);
  assert.deepEqual(disks[0]?.history, { sizeBytes: DISK.sizeBytes });
  const { headSeq, blockCount, key } = await open(agent);
  assert.equal(blockCount, BLOCKS + 3 * 256);
  const hasher = new ComparisonHasher(Buffer.from(key, "hex"));
  const content = Buffer.concat([contentOf(changes), Buffer.alloc(3 * GRANULE_BYTES)]);
  const expected = Array.from({ length: 8 }, (_, granule) =>
    hasher.granule(granuleOf(content, granule)),
  );
  assert.deepEqual(await hashesOf(agent, headSeq), Buffer.concat(expected));
});

test("a comparison ends where the log grows, the session is replaced or the server starts again", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const changes = changesOf(new Dice(4));
  let last: ComparisonReply;
  {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    await send(agent, [...changes, { type: "end" }], 1);
    const { headSeq, key } = await open(agent);
    await hashesOf(agent, headSeq);
    await send(agent, [{ type: "zero", block: 0, count: 1 }, { type: "end" }], 2);
    await assert.rejects(hashesOf(agent, headSeq), { code: "COMPARISON_GONE" });
    last = await open(agent);
    assert.ok(last.headSeq > headSeq);
    assert.notEqual(last.key, key);
    await assert.rejects(hashesOf(agent, headSeq), { code: "COMPARISON_GONE" });
    await hashesOf(agent, last.headSeq);
    const oldEpoch = agent.epoch;
    await agent.openSession([DISK]);
    await assert.rejects(hashesOf(agent, last.headSeq), { code: "COMPARISON_GONE" });
    agent.epoch = oldEpoch;
    await assert.rejects(hashesOf(agent, last.headSeq), { code: "SESSION_REPLACED" });
  }
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK], 9);
  await assert.rejects(hashesOf(agent, last.headSeq), { code: "COMPARISON_GONE" });
  // The same head has the same key: what was compared with it still counts.
  assert.deepEqual(await open(agent), last);
});

test("a log that cannot be read is said to be so, before and after the comparison was opened", async () => {
  await using testbed = await openTestbed();
  const store = counted(await openStore(testbed.storeFolder));
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession([DISK]);
  await send(agent, [...changesOf(new Dice(5)), { type: "end" }], 1);
  const { headSeq } = await open(agent);
  store.isDamaged = true;
  await assert.rejects(hashesOf(agent, headSeq), { code: "COMPARISON_FAILED", retryable: false });
  store.isDamaged = false;
  await agent.openSession([DISK]);
  store.isDamaged = true;
  await assert.rejects(open(agent), { code: "COMPARISON_FAILED", retryable: false });
});

test("a comparison that nobody uses gives its place back", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store, scheduler: hastyScheduler });
  using agent = await agentOf(testbed, running.port, machineId);
  const identities = ["serial:a", "serial:b", "serial:c"];
  await agent.openSession(identities.map((identity) => ({ ...DISK, identity })));
  const { headSeq } = await open(agent);
  await open(agent, "serial:b");
  await eventually("room for another disk", () =>
    open(agent, "serial:c").catch((error: { code: string }) => {
      assert.equal(error.code, "COMPARISON_NOT_READY");
      return undefined;
    }),
  );
  await assert.rejects(hashesOf(agent, headSeq), { code: "COMPARISON_GONE" });
});

test("only the machine's own disks, and only within the limits", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  using other = await agentOf(testbed, running.port, uuidOfName("machine", "nosy"));
  const identities = ["serial:a", "serial:b", "serial:c"];
  await agent.openSession(identities.map((identity) => ({ ...DISK, identity })));
  await other.openSession([DISK]);
  const { headSeq } = await open(agent);
  const { diskId } = agent.granted(DISK.identity);
  const at = { headSeq, epoch: other.epoch, granule: 0, count: 1 };
  const foreign = { code: "DISK_FOREIGN", details: { status: 403 } };
  await assert.rejects(get(other, routes.granuleHashes(diskId, at)), foreign);
  await assert.rejects(get(other, routes.blockHashes(diskId, at)), foreign);
  const body = Buffer.from(JSON.stringify({ epoch: 1 }));
  const path = routes.comparison(diskId);
  await assert.rejects(other.client.request({ method: "POST", path, body }), foreign);
  const invalid = { code: "INPUT_INVALID", details: { status: 400 } };
  for (const wrong of [
    { granule: granulesOf(DISK.sizeBytes) },
    { granule: -1 },
    { granule: 0.5 },
    { count: 0 },
    { count: GRANULES_PER_REQUEST_MAX + 1 },
    { epoch: Number.NaN },
  ])
    await assert.rejects(get(agent, routes.granuleHashes(diskId, { ...at, ...wrong })), (error) => {
      assert.equal((error as { code: string }).code, invalid.code, JSON.stringify(wrong));
      return true;
    });
  await assert.rejects(get(agent, `${path}/${headSeq}/hashes`), { code: "INPUT_INVALID" });
  await assert.rejects(get(agent, `${path}/${headSeq}/bytes`), { code: "NOT_FOUND" });
  // Two disks at once: the third waits its turn.
  await open(agent, "serial:b");
  await assert.rejects(open(agent, "serial:c"), {
    code: "COMPARISON_NOT_READY",
    retryable: true,
  });
  // A new session has let go of them.
  await agent.openSession(identities.map((identity) => ({ ...DISK, identity })));
  await open(agent, "serial:c");
});

test("a disk has grown only until a point has its new size, also for another process server", async () => {
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const grown = { ...DISK, sizeBytes: DISK.sizeBytes + GRANULE_BYTES };
  const historyOf = (agent: TestAgent): unknown => agent.granted(DISK.identity).history;
  const point = async (agent: TestAgent, sizeBytes: number): Promise<void> => {
    const { diskId, nextInterval: interval } = agent.granted(DISK.identity);
    const tag = { ...agent.tag(interval, [DISK.identity]), diskBytes: [sizeBytes] };
    const place = { session: agent.epoch, interval, recordNo: 0 };
    await agent.send(diskId, encodeChanges([{ type: "mark", tag }, { type: "end" }], place));
    await eventually("the point", async () => {
      const { newestPoint } = await agent.heartbeat();
      return newestPoint?.slot === interval;
    });
  };
  {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    await agent.openSession([DISK]);
    await point(agent, DISK.sizeBytes);
    await agent.openSession([grown]);
    assert.deepEqual(historyOf(agent), { sizeBytes: DISK.sizeBytes });
    await point(agent, grown.sizeBytes);
    await agent.openSession([grown]);
    assert.deepEqual(historyOf(agent), { sizeBytes: grown.sizeBytes });
  }
  await using other = await runServer(testbed, {
    store,
    spoolFolder: join(testbed.folder, "other-spool"),
  });
  using agent = await agentOf(testbed, other.port, machineId);
  await agent.openSession([grown], 4);
  assert.deepEqual(historyOf(agent), { sizeBytes: grown.sizeBytes });
});
