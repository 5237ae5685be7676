import assert from "node:assert/strict";
import { test } from "node:test";

import { uuidOfName } from "@osr/base/uuid";

import { Dice, ModelDisk, randomChange } from "./model-disk.contract.ts";
import {
  agentOf,
  assertRepositoryIsSound,
  comparePoint,
  offeredPoints,
} from "./site-checks.contract.ts";
import { type Change, type TestAgent, encodeChanges } from "./test-agent.contract.ts";
import { eventually, openStore, openTestbed, runServer } from "./testbed.contract.ts";

const machineId = uuidOfName("machine", "model");
const IDENTITIES = ["serial:a", "serial:b"];
const BLOCKS = 500;
const WINDOW = 4;

type Piece = { readonly recordNo: number; readonly bytes: Buffer };

/** Cuts the records of an interval into batches. */
function cut(dice: Dice, agent: TestAgent, changes: readonly Change[], interval: number): Piece[] {
  const pieces: Piece[] = [];
  for (let recordNo = 0; recordNo < changes.length;) {
    const count = 1 + dice.below(8);
    const part = changes.slice(recordNo, recordNo + count);
    pieces.push({
      recordNo,
      bytes: encodeChanges(part, { session: agent.epoch, interval, recordNo }),
    });
    // Now and then the next batch begins with records that are in this one too.
    recordNo += part.length;
    if (dice.chance(0.1) && recordNo > 1 && recordNo < changes.length) recordNo -= 1;
  }
  return pieces;
}

/** Sends batches as a bad network would: out of order, twice, again later, damaged. All are answered in the end. */
async function deliver(
  dice: Dice,
  agent: TestAgent,
  disk: string,
  pieces: readonly Piece[],
): Promise<void> {
  const { diskId } = agent.granted(disk);
  for (let first = 0; first < pieces.length; first += WINDOW) {
    const window = pieces.slice(first, first + WINDOW);
    const sends = window
      .map((piece) => ({ piece, at: dice.below(1000) }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ piece }) => agent.send(diskId, Buffer.from(piece.bytes)));
    if (dice.chance(0.3)) sends.push(agent.send(diskId, Buffer.from(window[0]!.bytes)));
    await Promise.all(sends);
    const old = pieces[dice.below(first + 1)]!;
    if (dice.chance(0.3)) await agent.send(diskId, Buffer.from(old.bytes));
    if (dice.chance(0.2)) await sendDamaged(dice, agent, disk, old.bytes);
  }
}

async function sendDamaged(
  dice: Dice,
  agent: TestAgent,
  disk: string,
  bytes: Buffer,
): Promise<void> {
  const damaged = Buffer.from(bytes);
  const bit = dice.below(damaged.length * 8);
  damaged[Math.floor(bit / 8)]! ^= 2 ** (bit % 8);
  const cutShort = bytes.subarray(0, 1 + dice.below(bytes.length - 1));
  for (const bad of [damaged, cutShort])
    await assert
      .rejects(agent.send(agent.granted(disk).diskId, bad), (error) => {
        // A batch cut between two records is whole, but then it is known.
        assert.match((error as { code: string }).code, /HRL_INVALID|SESSION_REPLACED/);
        return true;
      })
      .catch((error: unknown) => {
        if (!(error instanceof assert.AssertionError)) throw error;
        assert.match(error.message, /Missing expected rejection/);
        assert.equal(bad, cutShort);
      });
}

async function round(seed: number): Promise<void> {
  const dice = new Dice(seed);
  await using testbed = await openTestbed();
  const store = await openStore(testbed.storeFolder);
  const models = new Map(IDENTITIES.map((disk) => [disk, new ModelDisk(BLOCKS)]));
  const frozen = new Map<number, Map<string, ModelDisk>>();
  let epoch = 0;
  for (let run = 0; run < 3; run++) {
    await using running = await runServer(testbed, { store });
    using agent = await agentOf(testbed, running.port, machineId);
    for (let cutNo = 0; cutNo < 3; cutNo++) {
      if (cutNo === 0 || dice.chance(0.3)) {
        epoch += 1 + dice.below(3);
        await agent.openSession(
          IDENTITIES.map((identity) => ({ identity, sizeBytes: BLOCKS * 4096 })),
          epoch,
        );
      }
      const slot = Math.max(agent.reply!.newestSlot, ...frozen.keys(), 0) + 1;
      const tag = agent.tag(slot, IDENTITIES);
      await Promise.all(
        IDENTITIES.map(async (disk) => {
          const granted = agent.granted(disk);
          const model = models.get(disk)!;
          const own = new Dice(dice.below(2 ** 31));
          const interval = granted.nextInterval + cutNo * 3;
          const changes = Array.from({ length: 10 + own.below(30) }, () =>
            randomChange(own, BLOCKS),
          );
          for (const change of changes) model.apply(change);
          if (own.chance(0.3)) {
            // An interval that is given up: its data stays in the log, and the next one supersedes it.
            await deliver(own, agent, disk, cut(own, agent, changes, interval));
            const again = changes.slice(own.below(changes.length));
            for (const change of again) model.apply(change);
            const all: Change[] = [...again, { type: "mark", tag }, { type: "end" }];
            await deliver(own, agent, disk, cut(own, agent, all, interval + 1));
          } else {
            const all: Change[] = [...changes, { type: "mark", tag }, { type: "end" }];
            await deliver(own, agent, disk, cut(own, agent, all, interval));
          }
        }),
      );
      frozen.set(slot, new Map([...models].map(([disk, model]) => [disk, model.copy()])));
      if (dice.chance(0.5))
        await eventually("point", async () => {
          const { newestPoint } = await agent.heartbeat();
          return newestPoint?.slot === slot;
        });
    }
  }
  // A last session lets the spool of the last run drain.
  await using running = await runServer(testbed, { store });
  using agent = await agentOf(testbed, running.port, machineId);
  await agent.openSession(
    IDENTITIES.map((identity) => ({ identity, sizeBytes: BLOCKS * 4096 })),
    epoch + 1,
  );
  const points = await eventually("all points", async () => {
    const made = await offeredPoints(store, machineId);
    return made.length === frozen.size && made;
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
}

for (const seed of [1, 2, 3])
  test(`what agents send is what points hold, whatever the network does (seed ${seed})`, () =>
    round(seed));
