import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";
import { routes } from "@osr/contracts/agent-protocol";
import type { ObjectStore } from "@osr/repository/object-store";
import { diskIdOf } from "@osr/repository/disk-id";

import { agentOf, offeredPoints } from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import {
  type RunningServer,
  type Testbed,
  eventually,
  openStore,
  openTestbed,
  runServer,
} from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "resumed");
const DISK = { identity: "serial:a", sizeBytes: 100 * 4096 };
const diskId = diskIdOf(machineId, DISK.identity);

const data = (block: number): Change => ({
  type: "data",
  block,
  content: Buffer.alloc(4096, `block ${block}`),
});

/** A site whose process server has an agent in a session, in the middle of its first interval. */
class Site implements AsyncDisposable {
  readonly testbed: Testbed;
  readonly store: ObjectStore;
  server: RunningServer | undefined;
  agent: TestAgent | undefined;

  private constructor(testbed: Testbed, store: ObjectStore) {
    this.testbed = testbed;
    this.store = store;
  }

  static async open(): Promise<Site> {
    const testbed = await openTestbed();
    const site = new Site(testbed, await openStore(testbed.storeFolder));
    await site.start();
    await site.known.openSession([DISK]);
    await site.send([data(1), data(2)], 0);
    return site;
  }

  get known(): TestAgent {
    assert.ok(this.agent);
    return this.agent;
  }

  async start(spoolFolder = this.testbed.spoolFolder): Promise<void> {
    const before = this.agent;
    this.server = await runServer(this.testbed, { store: this.store, spoolFolder });
    this.agent = await agentOf(this.testbed, this.server.port, machineId);
    if (before !== undefined)
      Object.assign(this.agent, { epoch: before.epoch, reply: before.reply });
  }

  async stop(): Promise<void> {
    this.agent?.[Symbol.dispose]();
    await this.server?.[Symbol.asyncDispose]();
  }

  send(changes: readonly Change[], recordNo: number): ReturnType<TestAgent["send"]> {
    const interval = this.known.granted(DISK.identity).nextInterval;
    const start = { session: this.known.epoch, interval, recordNo };
    return this.known.send(diskId, encodeChanges(changes, start));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.testbed[Symbol.asyncDispose]();
  }
}

test("a session goes on where it was, also where its interval is in the storage account in part", async () => {
  await using site = await Site.open();
  await site.stop();
  await site.start();
  assert.equal((await site.known.heartbeat()).disks[0]?.spooledRecordNo, 1);
  assert.equal((await site.send([data(2), data(3)], 1)).spooledRecordNo, 2);
  // A comparison uploads what is spooled, so that no journal is left.
  await site.known.client.request({
    method: "POST",
    path: routes.comparison(diskId),
    body: Buffer.from(JSON.stringify({ epoch: site.known.epoch })),
  });
  await site.stop();
  await site.start();
  assert.equal((await site.known.heartbeat()).disks[0]?.spooledRecordNo, 2);
  await assert.rejects(site.known.heartbeat(site.known.epoch + 1), { code: "SESSION_REPLACED" });
  await site.send([{ type: "end" }], 3);
  const { nextInterval } = site.known.granted(DISK.identity);
  await eventually("the interval is vaulted", async () => {
    const { disks } = await site.known.heartbeat();
    return disks[0]?.vaultedInterval === nextInterval;
  });
});

test("a tag becomes a point after a restart, though its agent never comes back", async () => {
  await using site = await Site.open();
  const tag = site.known.tag(7, [DISK.identity]);
  await site.send([{ type: "mark", tag }], 2);
  await site.stop();
  await site.start();
  await site.send([{ type: "end" }], 3);
  await site.stop();
  await site.start();
  await eventually(
    "the point",
    async () => (await offeredPoints(site.store, machineId)).length === 1,
  );
});

test("the next session learns the newest record that is durable", async () => {
  await using site = await Site.open();
  const { epoch } = site.known;
  const { nextInterval } = site.known.granted(DISK.identity);
  assert.equal(site.known.granted(DISK.identity).last, undefined);
  const last = { session: epoch, interval: nextInterval, recordNo: 1 };
  await site.known.openSession([DISK]);
  assert.deepEqual(site.known.granted(DISK.identity).last, last);
  await site.stop();
  await site.start();
  await assert.rejects(site.known.openSession([DISK], epoch), {
    code: "EPOCH_STALE",
    details: { newestEpoch: epoch + 1, status: 409 },
  });
  await site.known.openSession([DISK], epoch + 2);
  assert.deepEqual(site.known.granted(DISK.identity).last, last);
});

test("without what was spooled, a session ends", async () => {
  await using site = await Site.open();
  await site.stop();
  await rm(join(site.testbed.spoolFolder, diskId), { recursive: true });
  await site.start();
  await assert.rejects(site.send([data(3)], 2), { code: "SESSION_REPLACED" });
  await site.known.openSession([DISK]);
  // Nothing of the session before is there.
  assert.notEqual(site.known.granted(DISK.identity).last?.session, site.known.epoch - 1);
});

test("a session ends where another process server has claimed the log meanwhile", async () => {
  await using site = await Site.open();
  await site.stop();
  await site.start(join(site.testbed.folder, "other-spool"));
  await site.known.openSession([DISK], site.known.epoch + 1);
  await site.stop();
  await site.start();
  await assert.rejects(site.known.heartbeat(site.known.epoch - 1), { code: "SESSION_REPLACED" });
});
