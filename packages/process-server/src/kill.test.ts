import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { uuidOfName } from "@osr/base/uuid";
import { openDirectoryStore } from "@osr/repository/directory-store";

import type { KillServerConfig } from "./kill-server.contract.ts";
import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import { type Testbed, VAULT_ID, eventually, openTestbed } from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "killed");
const IDENTITIES = ["serial:a", "serial:b"];
const BLOCKS = 1500;
const ROUNDS = 10;
const WINDOW = 4;
const KILLS = 8;
const INTERVALS = 24;
const AGAIN_MS = 20;

/** One disk as its agent sees it: `unacknowledged` is sent again, everything else never. */
type Disk = {
  readonly identity: string;
  readonly model: ModelDisk;
  readonly dice: Dice;
  unacknowledged: Change[];
};

async function startServer(file: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, "kill-server.contract.ts"), file],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return { child, port: Number(line.toString()) };
}

function configOf(testbed: Testbed): KillServerConfig {
  return {
    storeFolder: testbed.storeFolder,
    config: {
      vaultId: VAULT_ID,
      spoolFolder: testbed.spoolFolder,
      cacheBytes: 2 ** 30,
      host: "127.0.0.1",
      port: 0,
      metricsPort: 0,
      tls: { ...testbed.serverIdentity, clientAuthorityPem: testbed.authority.certificatePem },
    },
  };
}

/** Sends one interval with a tag. Changes leave `unacknowledged` only when their batch was answered. */
async function sendInterval(
  agent: TestAgent,
  disk: Disk,
  place: { readonly interval: number; readonly slot: number },
  acknowledged: () => void,
): Promise<void> {
  const { interval, slot } = place;
  const { diskId } = agent.granted(disk.identity);
  const fresh = Array.from({ length: 10 + disk.dice.below(40) }, () =>
    randomChange(disk.dice, BLOCKS),
  );
  let recordNo = 0;
  let sending: Change[] = [...disk.unacknowledged];
  disk.unacknowledged = [];
  for (const change of fresh) disk.model.apply(change);
  sending.push(...fresh);
  sending.push({ type: "mark", tag: agent.tag(slot, IDENTITIES) }, { type: "end" });
  const batches: { changes: Change[]; recordNo: number; done: boolean }[] = [];
  while (sending.length > 0) {
    const changes = sending.slice(0, 1 + disk.dice.below(6));
    sending = sending.slice(changes.length);
    batches.push({ changes, recordNo, done: false });
    recordNo += changes.length;
  }
  try {
    for (let first = 0; first < batches.length; first += WINDOW)
      await Promise.all(
        batches.slice(first, first + WINDOW).map(async (batch) => {
          const start = { session: agent.epoch, interval, recordNo: batch.recordNo };
          await agent.send(diskId, encodeChanges(batch.changes, start));
          batch.done = true;
          acknowledged();
        }),
      );
  } finally {
    // From the first one that was not answered, so that no older content follows newer.
    const first = batches.findIndex(({ done }) => !done);
    disk.unacknowledged = (first < 0 ? [] : batches.slice(first))
      .flatMap(({ changes }) => changes)
      .filter(({ type }) => type === "data" || type === "zero");
  }
}
test(`kill -9 at ${ROUNDS} random moments loses nothing that was acknowledged`, async (t) => {
  await using testbed = await openTestbed();
  const dice = new Dice(Number(process.env["OSR_TEST_SEED"] ?? 20));
  const file = join(testbed.folder, "server.json");
  await writeFile(file, JSON.stringify(configOf(testbed)), { mode: 0o600 });
  const disks: Disk[] = IDENTITIES.map((identity, index) => ({
    identity,
    model: new ModelDisk(BLOCKS),
    dice: new Dice(100 + index),
    unacknowledged: [],
  }));
  const frozen = new Map<number, Map<string, ModelDisk>>();
  const certain = new Set<number>();
  let killed = 0;
  for (let round = 0; round <= ROUNDS; round++) {
    const isLast = round === ROUNDS;
    const { child, port } = await startServer(file);
    t.after(() => child.kill("SIGKILL"));
    using agent = await agentOf(testbed, port, machineId);
    // Most are killed after some number of acknowledgements, the others while they start or open the session.
    let acksLeft = isLast || dice.chance(0.25) ? Infinity : 1 + dice.below(60);
    const lagMs = dice.below(20);
    const life = Promise.withResolvers<void>();
    const kill = (afterMs: number): void => {
      setTimeout(() => {
        child.kill("SIGKILL");
        life.resolve();
      }, afterMs);
    };
    const acknowledged = (): void => {
      acksLeft -= 1;
      if (acksLeft === 0) kill(lagMs);
    };
    if (isLast) life.resolve();
    else if (acksLeft === Infinity) kill(dice.below(300));
    try {
      await agent.openSession(
        IDENTITIES.map((identity) => ({ identity, sizeBytes: BLOCKS * 4096 })),
        round + 1,
      );
      for (let cut = 0; cut < (isLast ? 1 : 30); cut++) {
        const slot = Math.max(agent.reply!.newestSlot, ...frozen.keys(), 0) + 1;
        const atTag = new Map<string, ModelDisk>();
        frozen.set(slot, atTag);
        const results = await Promise.allSettled(
          disks.map(async (disk) => {
            const interval = agent.granted(disk.identity).nextInterval + cut;
            // The model at the tag is known before anything can fail.
            const sent = sendInterval(agent, disk, { interval, slot }, acknowledged);
            atTag.set(disk.identity, disk.model.copy());
            await sent;
          }),
        );
        const failed = results.find((result) => result.status === "rejected");
        if (failed !== undefined) throw failed.reason;
        certain.add(slot);
      }
    } catch (error) {
      if (isLast) throw error;
      assert.match((error as { code: string }).code, /PEER_UNAVAILABLE/);
      killed += 1;
    }
    await life.promise;
    if (isLast) {
      const store = await openDirectoryStore(testbed.storeFolder, { access: "read" });
      const points = await eventually("every certain point", async () => {
        const made = await offeredPoints(store, machineId);
        return [...certain].every((slot) => made.some((point) => point.slot === slot)) && made;
      });
      for (const point of points)
        for (const identity of IDENTITIES)
          await comparePoint(
            store,
            point,
            { machineId, identity },
            frozen.get(point.slot)!.get(identity)!,
          );
      await assertRepositoryIsSound(store);
      child.kill("SIGKILL");
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
  t.diagnostic(`${killed} kills, ${certain.size} acknowledged tags`);
  assert.ok(killed > ROUNDS / 2, `${killed} kills hit while something was under way`);
  assert.ok(certain.size >= 4, `${certain.size} tags were acknowledged`);
});

type Sending = { readonly bytes: Buffer; isAnswered: boolean };

/** Sends batches of one interval, again and again until all are answered: always the same bytes. */
async function sendUntilAnswered(
  link: { readonly agent: TestAgent },
  identity: string,
  batches: Sending[],
): Promise<void> {
  const { diskId } = link.agent.granted(identity);
  for (let first = 0; first < batches.length; first += WINDOW)
    await Promise.all(
      batches.slice(first, first + WINDOW).map(async (batch) => {
        while (!batch.isAnswered)
          try {
            await link.agent.send(diskId, Buffer.from(batch.bytes));
            batch.isAnswered = true;
          } catch (error) {
            assert.match((error as { code: string }).code, /PEER_UNAVAILABLE/);
            await sleep(AGAIN_MS);
          }
      }),
    );
}

/** One interval with a tag, cut into batches anywhere, also between MARK and END. */
function intervalOf(agent: TestAgent, disk: Disk, place: { interval: number; slot: number }) {
  const { interval, slot } = place;
  const changes: Change[] = Array.from({ length: 5 + disk.dice.below(30) }, () =>
    randomChange(disk.dice, BLOCKS),
  );
  for (const change of changes) disk.model.apply(change);
  changes.push({ type: "mark", tag: agent.tag(slot, IDENTITIES) }, { type: "end" });
  const batches: Sending[] = [];
  for (let recordNo = 0; recordNo < changes.length;) {
    const piece = changes.slice(recordNo, recordNo + 1 + disk.dice.below(4));
    const start = { session: agent.epoch, interval, recordNo };
    batches.push({ bytes: encodeChanges(piece, start), isAnswered: false });
    recordNo += piece.length;
  }
  return batches;
}

test(`a session outlives ${KILLS} kills: what was answered is never sent again, and every tag becomes a point`, async (t) => {
  await using testbed = await openTestbed();
  const dice = new Dice(Number(process.env["OSR_TEST_SEED"] ?? 21));
  const file = join(testbed.folder, "server.json");
  await writeFile(file, JSON.stringify(configOf(testbed)), { mode: 0o600 });
  let { child, port } = await startServer(file);
  t.after(() => child.kill("SIGKILL"));
  const link = { agent: await agentOf(testbed, port, machineId) };
  const { agent } = link;
  await agent.openSession(IDENTITIES.map((identity) => ({ identity, sizeBytes: BLOCKS * 4096 })));
  const disks: Disk[] = IDENTITIES.map((identity, index) => ({
    identity,
    model: new ModelDisk(BLOCKS),
    dice: new Dice(dice.below(1000) + index),
    unacknowledged: [],
  }));
  const frozen = new Map<number, Map<string, ModelDisk>>();
  const progress = { isDone: false };
  const sending = (async () => {
    for (let cut = 0; cut < INTERVALS; cut++) {
      const slot = agent.reply!.newestSlot + 1 + cut;
      const atTag = new Map<string, ModelDisk>();
      frozen.set(slot, atTag);
      await Promise.all(
        disks.map(async (disk) => {
          const interval = agent.granted(disk.identity).nextInterval + cut;
          const batches = intervalOf(agent, disk, { interval, slot });
          atTag.set(disk.identity, disk.model.copy());
          await sendUntilAnswered(link, disk.identity, batches);
        }),
      );
    }
    progress.isDone = true;
  })();
  sending.catch(() => (progress.isDone = true));
  let kills = 0;
  for (; kills < KILLS && !progress.isDone; kills++) {
    await sleep(dice.below(120));
    child.kill("SIGKILL");
    await once(child, "exit");
    ({ child, port } = await startServer(file));
    const { reply } = link.agent;
    link.agent[Symbol.dispose]();
    link.agent = await agentOf(testbed, port, machineId);
    Object.assign(link.agent, { epoch: agent.epoch, reply });
  }
  await sending;
  // The session is the one that was granted at first.
  await link.agent.heartbeat();
  link.agent[Symbol.dispose]();
  assert.ok(kills > KILLS / 2, `${kills} kills hit while something was under way`);
  const store = await openDirectoryStore(testbed.storeFolder, { access: "read" });
  const points = await eventually("every point", async () => {
    const made = await offeredPoints(store, machineId);
    return made.length === INTERVALS && made;
  });
  for (const point of points)
    for (const identity of IDENTITIES)
      await comparePoint(
        store,
        point,
        { machineId, identity },
        frozen.get(point.slot)!.get(identity)!,
      );
  await assertRepositoryIsSound(store);
  child.kill("SIGKILL");
  await once(child, "exit");
  t.diagnostic(`${kills} kills`);
});
