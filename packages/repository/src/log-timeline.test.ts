import assert from "node:assert/strict";
import { test } from "node:test";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { uuidOfName } from "@osr/base/uuid";

import { signClaimGrant } from "./claim-grant.ts";
import {
  encodeDiskDescriptor,
  ensureDiskDescriptor,
  readDiskDescriptor,
} from "./disk-descriptor.ts";
import { claimLog, fenceForFailover } from "./log-claim.ts";
import { readLogEnd, readLogTip } from "./log-end.ts";
import { LINEAGE_MAX } from "./log-lineage.ts";
import { continueLog, currentLog } from "./log-timeline.ts";
import { type LogId, diskDescriptorName, segmentName } from "./object-names.ts";
import { type ObjectStore, bodyOf } from "./object-store.ts";
import { openPoint } from "./point-reader.ts";
import type { RecoveryPoint } from "./recovery-point.ts";
import { verifyRepository } from "./repository-check.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { taggedSegments } from "./tagged-segments.ts";
import { AlteredStore, loadObjects } from "./testing/altered-store.ts";
import { coded } from "./testing/coded-error.ts";
import { FIXTURE_CLOCK, TestDisk, TestVault } from "./testing/log-fixture.ts";
import { type TemporaryStore, temporaryStore } from "./testing/temporary-store.ts";

const E = REPOSITORY_ERRORS;
const BLOCKS = 16;

function filled(text: string): Buffer {
  return Buffer.alloc(BLOCK_BYTES, text);
}

/** A disk with some content at segments 2 and 3, and a point at 4. */
async function scene(at: TemporaryStore): Promise<{ vault: TestVault; disk: TestDisk }> {
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  await disk.commit([{ block: 0, bytes: filled("a") }], { interval: 1, intervalEnded: 1 });
  await disk.commit([{ block: 1, bytes: filled("b") }], { interval: 2, intervalEnded: 2 });
  await vault.cut(1, new Map([[disk, [{ block: 2, bytes: filled("c") }]]]));
  return { vault, disk };
}

async function squat(store: ObjectStore, log: LogId, seq: number): Promise<void> {
  await store.create(segmentName(log, seq), bodyOf(Buffer.alloc(4096, "squatted")));
}

/** What an owner does whose next name is taken. */
async function goOn(disk: TestDisk): Promise<TestDisk> {
  const { vault, log, indexRoot, dataKey } = disk;
  const { tip, takenSeq } = await readLogEnd(vault.store, log, indexRoot);
  assert.equal(takenSeq, (tip?.seq ?? 0) + 1);
  const descriptor = await readDiskDescriptor(vault.store, log, indexRoot);
  const seq = tip?.seq ?? 0;
  const next = await continueLog(vault.store, log, { indexRoot, seq, descriptor });
  return new TestDisk(vault, dataKey, next.timeline);
}

async function read(
  disk: TestDisk,
  point: RecoveryPoint,
  store = disk.vault.store,
): Promise<string> {
  await using source = await openPoint(store, { ...disk.log, point, dataKey: disk.dataKey });
  const bytes = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  await source.read(0, bytes);
  return Array.from({ length: BLOCKS }, (_, block) =>
    String.fromCharCode(bytes[block * BLOCK_BYTES] || 46),
  ).join("");
}

async function findings({ vault }: TestDisk, withKeys = true): Promise<string[]> {
  const { store, vaultId, vaultKey } = vault;
  const codes: string[] = [];
  for await (const event of verifyRepository(store, withKeys ? { vaultId, vaultKey } : { vaultId }))
    if (event.kind === "finding") codes.push(event.code);
  return codes;
}

test("a log whose next name is taken goes on in a child timeline, and reads as one", async () => {
  await using at = await temporaryStore();
  const { vault, disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  await squat(at.store, disk.log, 9);
  await assert.rejects(disk.commit([]), coded(E.LOG_TAMPERED));
  await assert.rejects(disk.claim(), coded(E.LOG_TAMPERED));
  const child = await goOn(disk);
  assert.equal(child.log.timeline, 2);
  await child.claim();
  const { tip } = child;
  assert.deepEqual([tip.seq, tip.generation, tip.meta.intervalEnded], [1, 2, 2]);
  assert.equal(tip.meta.fence?.kind, "handover");
  const change = [
    { block: 1, bytes: filled("B") },
    { block: 5, bytes: filled("f") },
  ];
  const point = await vault.cut(2, new Map([[child, [...change, { block: 0, zeroCount: 1 }]]]));
  assert.deepEqual(
    point.disks.map(({ timeline, seq }) => [timeline, seq]),
    [[2, 2]],
  );
  assert.equal(await read(child, point), ".Bc..f..........");
  assert.deepEqual(await findings(child), ["LOG_TAMPERED", "LOG_TAMPERED"]);
  assert.deepEqual(await findings(child, false), ["LOG_TAMPERED", "LOG_TAMPERED"]);
  assert.deepEqual(await currentLog(at.store, disk.log, child), child.log);
  const slots: number[][] = [];
  for await (const { tag, position } of taggedSegments(at.store, child.log, child))
    slots.push([tag.slot, position.timeline, position.seq]);
  assert.deepEqual(slots, [
    [2, 2, 2],
    [1, 1, 4],
  ]);
});

test("what a child branches off is part of its chain", async () => {
  await using at = await temporaryStore();
  const { vault, disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  const child = await goOn(disk);
  await child.claim();
  const point = await vault.cut(2, new Map([[child, []]]));
  const [bytes] = (await loadObjects(at.store, [segmentName(disk.log, 3)])).values();
  const other = await vault.addDisk(BLOCKS * BLOCK_BYTES);
  await other.commit([]);
  const store = new AlteredStore(at.store);
  store.remove(segmentName(disk.log, 2));
  await assert.rejects(read(child, point, store), coded(E.LOG_BROKEN));
  store.restore();
  const flipped = Buffer.from(bytes ?? "");
  flipped.writeUInt8((flipped[flipped.length - 100] ?? 0) ^ 1, flipped.length - 100);
  store.alter(segmentName(disk.log, 3), flipped);
  await assert.rejects(read(child, point, store), coded(E.OBJECT_DAMAGED));
  // Somebody without the keys cannot make a disk branch off elsewhere.
  store.restore();
  const descriptor = await readDiskDescriptor(at.store, child.log, child.indexRoot);
  const parent = { timeline: 1, seq: 2, cause: "tampering" } as const;
  const forged = encodeDiskDescriptor({ ...descriptor, parent }, Buffer.alloc(32, 9));
  store.alter(diskDescriptorName(child.log), forged);
  await assert.rejects(read(child, point, store), coded(E.DESCRIPTOR_INVALID));
  // Whoever has them and gets it wrong is found by the chain.
  const wrong = encodeDiskDescriptor({ ...descriptor, parent }, child.indexRoot);
  store.alter(diskDescriptorName(child.log), wrong);
  await assert.rejects(read(child, point, store), coded(E.LOG_BROKEN));
});

test("all who find a log tampered with go on in the same child, past names that are taken", async () => {
  await using at = await temporaryStore();
  const { disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  await at.store.create(diskDescriptorName({ ...disk.log, timeline: 2 }), bodyOf(filled("x")));
  await squat(at.store, { ...disk.log, timeline: 3 }, 1);
  const children = await Promise.all([goOn(disk), goOn(disk), goOn(disk)]);
  for (const child of children) assert.equal(child.log.timeline, 4);
  for (const child of children) await child.claim();
  assert.deepEqual(
    children.map(({ tip }) => [tip.seq, tip.generation]),
    [
      [1, 2],
      [2, 3],
      [3, 4],
    ],
  );
  assert.equal((await currentLog(at.store, disk.log, disk)).timeline, 4);
  // Had two of them made a child each, the lower number would count.
  const root = await readDiskDescriptor(at.store, disk.log, disk.indexRoot);
  const parent = { timeline: 1, seq: 4, cause: "tampering" } as const;
  const later = { ...root, timeline: 7, parent };
  await ensureDiskDescriptor(at.store, disk.vault.vaultId, later, disk);
  assert.equal((await currentLog(at.store, disk.log, disk)).timeline, 4);
});

test("a child whose own names are taken goes on in a grandchild, be it empty or not", async () => {
  await using at = await temporaryStore();
  const { vault, disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  const empty = await goOn(disk);
  await squat(at.store, empty.log, 1);
  await assert.rejects(empty.claim(), coded(E.LOG_TAMPERED));
  const child = await goOn(empty);
  await child.claim();
  await child.commit([{ block: 7, bytes: filled("h") }], { interval: 3, intervalEnded: 3 });
  await squat(at.store, child.log, 3);
  const grandchild = await goOn(child);
  await grandchild.claim();
  const point = await vault.cut(9, new Map([[grandchild, [{ block: 8, bytes: filled("i") }]]]));
  assert.equal(await read(grandchild, point), "abc....hi.......");
  assert.deepEqual(await currentLog(at.store, disk.log, disk), grandchild.log);
  assert.deepEqual(
    await findings(disk),
    Array.from({ length: 3 }, () => "LOG_TAMPERED"),
  );
  // What the log without any continuation was at its own points stays.
  for await (const { position } of taggedSegments(at.store, disk.log, disk))
    assert.deepEqual([position.timeline, position.seq], [1, 4]);
});

test("names that are none of ours do not hide where a log goes on", async () => {
  await using at = await temporaryStore();
  const { disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  for (let number = 100; number < 170; number++)
    await at.store.create(
      `v1/${disk.log.vaultId}/d/${disk.diskId}/a/${number}`,
      bodyOf(filled("x")),
    );
  const child = await goOn(disk);
  assert.deepEqual(await currentLog(at.store, disk.log, disk), child.log);
});

test("a lost segment is no end of the log, foreign objects beyond it are", async () => {
  await using at = await temporaryStore();
  const { disk } = await scene(at);
  const store = new AlteredStore(at.store);
  store.remove(segmentName(disk.log, 3));
  await assert.rejects(readLogEnd(store, disk.log, disk.indexRoot), coded(E.LOG_BROKEN));
  await squat(at.store, disk.log, 7);
  const end = await readLogEnd(at.store, disk.log, disk.indexRoot);
  assert.deepEqual([end.tip?.seq, end.takenSeq], [4, undefined]);
  await disk.commit([]);
  assert.equal((await readLogTip(at.store, disk.log, disk.indexRoot))?.seq, 5);
});

test("a squatter who takes the names of all timelines is named, too", async () => {
  await using at = await temporaryStore();
  const { disk } = await scene(at);
  await squat(at.store, disk.log, 5);
  for (let timeline = 2; timeline <= 66; timeline++)
    await squat(at.store, { ...disk.log, timeline }, 1);
  await assert.rejects(goOn(disk), coded(E.LOG_TAMPERED));
});

test("a line of parents has an end", async () => {
  await using at = await temporaryStore();
  const { vault, disk } = await scene(at);
  let { log } = disk;
  const root = await readDiskDescriptor(at.store, log, disk.indexRoot);
  for (let timeline = 2; timeline <= LINEAGE_MAX + 1; timeline++) {
    const parent = { timeline: log.timeline, seq: 0, cause: "tampering" } as const;
    await ensureDiskDescriptor(at.store, vault.vaultId, { ...root, timeline, parent }, disk);
    log = { ...log, timeline };
    const read = readLogEnd(at.store, log, disk.indexRoot);
    if (timeline > LINEAGE_MAX) await assert.rejects(read, coded(E.LOG_BROKEN));
    else assert.equal((await read).tip, undefined);
  }
});

test("a machine that failed over goes on in a timeline of its own only with a grant for it", async () => {
  await using at = await temporaryStore();
  const { vault, disk } = await scene(at);
  const { vaultKey, randomness } = vault;
  const owner = uuidOfName("owner");
  const options = { dataKey: disk.dataKey, owner, clock: FIXTURE_CLOCK, randomness };
  const fence = await fenceForFailover(at.store, disk.log, { ...options, vaultKey });
  const root = await readDiskDescriptor(at.store, disk.log, disk.indexRoot);
  const parent = { timeline: 1, seq: fence.seq, cause: "reprotect" } as const;
  await ensureDiskDescriptor(at.store, vault.vaultId, { ...root, timeline: 2, parent }, disk);
  const child = { ...disk.log, timeline: 2 };
  // The source does not follow into it.
  assert.deepEqual(await currentLog(at.store, disk.log, disk), disk.log);
  await assert.rejects(claimLog(at.store, child, options), coded(E.LOG_FENCED));
  const ofRoot = signClaimGrant(vaultKey, disk.log, fence.generation + 1);
  await assert.rejects(
    claimLog(at.store, child, { ...options, grant: ofRoot }),
    coded(E.GRANT_INVALID),
  );
  const grant = signClaimGrant(vaultKey, child, fence.generation + 1);
  const tip = await claimLog(at.store, child, { ...options, grant });
  assert.deepEqual([tip.seq, tip.generation, tip.meta.intervalEnded], [1, 3, 2]);
});
