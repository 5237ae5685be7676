import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";

import { OsrError, defineErrors } from "@osr/base/errors";
import { parseJson } from "@osr/base/json-shape";
import { uuidOfName } from "@osr/base/uuid";

import type { ClaimGrant } from "@osr/contracts/claim-grant";
import { claimGrantShape } from "@osr/contracts/claim-grant";
import { signClaimGrant } from "./claim-grant.ts";
import { commitSegment } from "./disk-log.ts";
import { claimLog, fenceForFailover } from "./log-claim.ts";
import { readLogTip } from "./log-end.ts";
import { segmentName } from "./object-names.ts";
import { type ObjectBody, type ObjectStore, bodyOf } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { NO_HEAD, SEGMENT_FOOTER_BYTES, chainFooter, headOf } from "./segment-footer.ts";
import { AlteredStore, loadObjects } from "./testing/altered-store.ts";
import { coded } from "./testing/coded-error.ts";
import { FIXTURE_CLOCK, TestDisk, type TestSegment, TestVault } from "./testing/log-fixture.ts";
import { temporaryStore } from "./testing/temporary-store.ts";
import { taggedSegments } from "./tagged-segments.ts";

const E = REPOSITORY_ERRORS;
const BLOCK = Buffer.alloc(4096, "block");

function finished(
  { header, bytes }: TestSegment,
  disk: TestDisk,
): Parameters<typeof commitSegment>[2] {
  const footerBytes = bytes.subarray(bytes.length - SEGMENT_FOOTER_BYTES);
  return { header, body: bodyOf(bytes), footerBytes, indexRoot: disk.indexRoot };
}

function fencing(disk: TestDisk) {
  const { randomness } = disk.vault;
  const owner = uuidOfName("other owner");
  return { dataKey: disk.dataKey, owner, clock: FIXTURE_CLOCK, randomness };
}

function claim(store: ObjectStore, disk: TestDisk, grant?: ClaimGrant) {
  return claimLog(store, disk.log, { ...fencing(disk), grant });
}

test("an empty log has no tip; the first segment is a fence of generation 1", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const empty = { ...disk.log, diskId: uuidOfName("no such disk") };
  assert.equal(await readLogTip(at.store, empty, disk.indexRoot), undefined);
  const { seq, generation, meta } = disk.tip;
  assert.deepEqual([seq, generation], [1, 1]);
  const { fence, ...numbers } = meta;
  assert.equal(fence?.kind, "claim");
  assert.deepEqual(numbers, { session: 0, interval: 0, intervalEnded: 0 });
});

test("a new owner takes over the numbers of the log, and the old one is fenced", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  await disk.commit([{ block: 0, bytes: BLOCK }], { session: 3, interval: 8, intervalEnded: 7 });
  const old = disk.encode([{ block: 0, bytes: BLOCK }]);
  const tip = await claim(at.store, disk);
  assert.deepEqual([tip.seq, tip.generation], [3, 2]);
  assert.deepEqual([tip.meta.session, tip.meta.interval, tip.meta.intervalEnded], [3, 8, 7]);
  assert.deepEqual(await readLogTip(at.store, disk.log, disk.indexRoot), tip);
  await assert.rejects(
    commitSegment(at.store, disk.log, finished(old, disk)),
    (error) =>
      error instanceof OsrError && error.code === "LOG_FENCED" && "generation" in error.details,
  );
});

test("committing the same bytes again is success", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const segment = disk.encode([{ block: 0, bytes: BLOCK }]);
  for (let i = 0; i < 3; i++) await commitSegment(at.store, disk.log, finished(segment, disk));
  assert.equal((await readLogTip(at.store, disk.log, disk.indexRoot))?.seq, 2);
});

test("a create that took effect although it failed is success when it is tried again", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const segment = finished(disk.encode([]), disk);
  const { LOST } = defineErrors({ LOST: { retryable: true, hint: "" } });
  const forgetful = new (class extends AlteredStore {
    override async create(name: string, body: ObjectBody): Promise<void> {
      await super.create(name, body);
      throw new OsrError(LOST, "the answer was lost");
    }
  })(at.store);
  await assert.rejects(commitSegment(forgetful, disk.log, segment), { code: "LOST" });
  await commitSegment(at.store, disk.log, segment);
});

test("another segment of my own generation, or one that is not authentic, is tampering", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const mine = finished(disk.encode([]), disk);
  const other = disk.encode([{ block: 0, bytes: BLOCK }]);
  await commitSegment(at.store, disk.log, finished(other, disk));
  await assert.rejects(commitSegment(at.store, disk.log, mine), coded(E.LOG_TAMPERED));

  const second = await vault.addDisk(4096);
  for (const squatter of [Buffer.from("squatted"), other.bytes, Buffer.alloc(0)]) {
    const disk = await vault.addDisk(4096);
    await at.store.create(segmentName(disk.log, 2), bodyOf(squatter));
    await assert.rejects(
      commitSegment(at.store, disk.log, finished(disk.encode([]), disk)),
      (error) => coded(E.LOG_TAMPERED)(error) && !("authentic" in (error as OsrError).details),
    );
    await assert.rejects(claim(at.store, disk), coded(E.LOG_TAMPERED));
  }
  // My header in front of other bytes: the object id alone proves nothing.
  const segment = second.encode([{ block: 0, bytes: BLOCK }]);
  const copied = Buffer.concat([
    segment.bytes.subarray(0, 128),
    Buffer.alloc(segment.bytes.length - 128),
  ]);
  await at.store.create(segmentName(second.log, 2), bodyOf(copied));
  await assert.rejects(
    commitSegment(at.store, second.log, finished(segment, second)),
    coded(E.LOG_TAMPERED),
  );
});

test("of many claims at once each that succeeds has a generation of its own", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const results = await Promise.allSettled(Array.from({ length: 6 }, () => claim(at.store, disk)));
  const won = results.filter((result) => result.status === "fulfilled").map(({ value }) => value);
  assert.ok(won.length >= 1);
  assert.equal(new Set(won.map(({ generation }) => generation)).size, won.length);
  for (const result of results)
    if (result.status === "rejected") coded(E.LOG_FENCED)(result.reason);
  const tip = await readLogTip(at.store, disk.log, disk.indexRoot);
  assert.equal(tip?.generation, 1 + won.length);
  assert.equal(tip.seq, 1 + won.length);
});

test("a claim follows an owner that still commits", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  let late = 0;
  const busy = new (class extends AlteredStore {
    override async create(name: string, body: ObjectBody): Promise<void> {
      if (late++ < 3) await disk.commit([{ block: 0, bytes: BLOCK }]);
      await super.create(name, body);
    }
  })(at.store);
  const tip = await claim(busy, disk);
  assert.deepEqual([tip.seq, tip.generation], [5, 2]);
});

test("after a failover nobody claims the log without the vault's grant for that very claim", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const other = await vault.addDisk(4096);
  const { vaultKey } = vault;
  await disk.commit([{ block: 0, bytes: BLOCK }], { session: 3, interval: 8, intervalEnded: 7 });
  const old = disk.encode([]);
  const fence = await fenceForFailover(at.store, disk.log, { ...fencing(disk), vaultKey });
  assert.deepEqual([fence.seq, fence.generation, fence.meta.intervalEnded], [3, 2, 7]);
  assert.equal(fence.meta.fence?.kind, "failover");
  // The source learns what kind of fence it met.
  await assert.rejects(
    disk.commitEncoded(old),
    (error) =>
      error instanceof OsrError &&
      error.code === "LOG_FENCED" &&
      "kind" in error.details &&
      error.details.kind === "failover",
  );
  await assert.rejects(claim(at.store, disk), coded(E.LOG_FENCED));
  const good = signClaimGrant(vaultKey, disk.log, 3);
  const bad: ClaimGrant[] = [
    signClaimGrant(vault.randomness.bytes(32), disk.log, 3),
    signClaimGrant(vaultKey, disk.log, 4),
    signClaimGrant(vaultKey, other.log, 3),
    signClaimGrant(vaultKey, { ...disk.log, timeline: 2 }, 3),
    { ...signClaimGrant(vaultKey, disk.log, 4), generation: 3 },
    { ...good, signature: "" },
    { ...good, signature: "zz" },
  ];
  for (const grant of bad)
    await assert.rejects(claim(at.store, disk, grant), coded(E.GRANT_INVALID));
  const wire = parseJson(JSON.stringify(good), claimGrantShape);
  const tip = await claim(at.store, disk, wire);
  assert.deepEqual([tip.generation, tip.meta.fence?.kind], [3, "handover"]);
  assert.equal(tip.meta.fence?.grant, good.signature);
  // From then on the log is an ordinary one again.
  assert.equal((await claim(at.store, disk)).generation, 4);
});

test("fencing a log again for the same failover changes nothing, another vault is refused", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const options = { ...fencing(disk), vaultKey: vault.vaultKey };
  const first = await fenceForFailover(at.store, disk.log, options);
  assert.deepEqual(await fenceForFailover(at.store, disk.log, options), first);
  const foreign = { ...options, vaultKey: vault.randomness.bytes(32) };
  await assert.rejects(fenceForFailover(at.store, disk.log, foreign), coded(E.LOG_FENCED));
});

test("a claim says whether the log was empty or is handed over", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  assert.equal(disk.tip.meta.fence?.kind, "claim");
  assert.equal((await claim(at.store, disk)).meta.fence?.kind, "handover");
});

test("a tip that does not follow the segment before it is refused", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const segment = disk.encode([{ block: 0, bytes: BLOCK }]);
  await disk.commitEncoded(segment);
  const store = new AlteredStore(at.store);
  const footer = segment.bytes.subarray(-SEGMENT_FOOTER_BYTES);
  const unchained = Buffer.concat([
    segment.bytes.subarray(0, -SEGMENT_FOOTER_BYTES),
    chainFooter(footer, headOf(footer)),
  ]);
  store.alter(segmentName(disk.log, 2), unchained);
  await assert.rejects(readLogTip(store, disk.log, disk.indexRoot), coded(E.LOG_BROKEN));
  store.restore();
  store.remove(segmentName(disk.log, 1));
  await assert.rejects(readLogTip(store, disk.log, disk.indexRoot), coded(E.LOG_BROKEN));
});

test("a log with features that only newer writers know takes no claim", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const name = segmentName(disk.log, 1);
  const [object] = (await loadObjects(at.store, [name])).values();
  const store = new AlteredStore(at.store);
  const newer = Buffer.from(object ?? "");
  newer.writeUInt32LE(1, 12);
  newer.writeUInt32LE(crc32(newer.subarray(0, 124)), 124);
  store.alter(name, newer);
  assert.equal((await readLogTip(store, disk.log, disk.indexRoot))?.seq, 1);
  await assert.rejects(claim(store, disk), coded(E.FORMAT_NEWER));
});

test("tags are found from the newest on, with their positions", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  for (const slot of [1, 2, 3]) await vault.cut(slot, new Map([[disk, []]]));
  await disk.commit([{ block: 0, bytes: BLOCK }]);
  const found: number[][] = [];
  for await (const { tag, position } of taggedSegments(at.store, disk.log, disk))
    found.push([tag.slot, position.seq]);
  assert.deepEqual(found, [
    [3, 4],
    [2, 3],
    [1, 2],
  ]);
});

test("chaining changes nothing but the head before", async () => {
  await using at = await temporaryStore();
  const vault = new TestVault(at.store);
  const disk = await vault.addDisk(4096);
  const { bytes } = disk.encode([]);
  const footer = bytes.subarray(-SEGMENT_FOOTER_BYTES);
  assert.ok(chainFooter(chainFooter(footer, NO_HEAD), disk.tip.head).equals(footer));
});
