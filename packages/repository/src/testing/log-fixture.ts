import { BLOCK_BYTES } from "@osr/base/block-range";
import type { Clock } from "@osr/base/clock";
import { must } from "@osr/base/assert";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";
import type { Tag, TagClass } from "@osr/contracts/tag";

import { type DiskDescriptor, ensureDiskDescriptor } from "../disk-descriptor.ts";
import { commitSegment } from "../disk-log.ts";
import { FRAME_BLOCKS_MAX, encodeFrame, frameBytesMax, prepareFrameContext } from "../frame.ts";
import { type DataKey, frameKeyOf, groupKeyOf, indexKeyOf, indexRootOf } from "../key-schedule.ts";
import { claimLog } from "../log-claim.ts";
import { type LogTip, readLogTip } from "../log-end.ts";
import { OBJECT_KINDS, type ObjectHeader } from "../object-header.ts";
import type { LogId } from "../object-names.ts";
import { type ObjectStore, bodyOf } from "../object-store.ts";
import { type RecoveryPoint, createRecoveryPoint, recoveryPointOf } from "../recovery-point.ts";
import { SegmentBuilder } from "../segment-builder.ts";
import { SEGMENT_FOOTER_BYTES } from "../segment-footer.ts";
import type { SegmentMeta } from "../segment-meta.ts";
import { ensureDataKey } from "../wrapped-key.ts";
import { seededRandomness } from "./seeded-randomness.ts";

/** One change of a disk: whole blocks of content that share frames in this order, or zeros. */
export type TestChange =
  | { readonly block: number; readonly bytes: Buffer }
  | { readonly block: number; readonly zeroCount: number };

export const FIXTURE_CLOCK: Clock = { unixMs: () => 1_700_000_000_000, monotonicMs: () => 0 };

/** A vault with one replication group and any number of disks, for tests. The same seed gives the same bytes. */
export class TestVault {
  readonly store: ObjectStore;
  readonly randomness: Randomness;
  readonly vaultId: Uuid;
  readonly vaultKey: Buffer;
  readonly groupId: Uuid;

  constructor(store: ObjectStore, seed = "vault") {
    this.store = store;
    this.randomness = seededRandomness(seed);
    this.vaultId = randomUuid(this.randomness);
    this.vaultKey = this.randomness.bytes(32);
    this.groupId = randomUuid(this.randomness);
  }

  get groupKey(): Buffer {
    return groupKeyOf(this.vaultKey, this.groupId);
  }

  /** Enrols a disk of `sizeBytes` and claims its log. */
  async addDisk(sizeBytes: number): Promise<TestDisk> {
    const { store, vaultId, vaultKey, randomness } = this;
    const diskId = randomUuid(randomness);
    const dataKey = await ensureDataKey(store, { vaultId, vaultKey, diskId, randomness });
    const descriptor = testDescriptor(diskId, randomUuid(randomness), sizeBytes);
    await ensureDiskDescriptor(store, vaultId, descriptor, { indexRoot: indexRootOf(dataKey) });
    const disk = new TestDisk(this, dataKey);
    await disk.claim();
    return disk;
  }

  /** A tag over `disks`. */
  tag(slot: number, disks: readonly TestDisk[], tagClass: TagClass = "crash"): Tag {
    return {
      groupId: this.groupId,
      slot,
      cutId: randomUuid(this.randomness),
      class: tagClass,
      unixMs: FIXTURE_CLOCK.unixMs(),
      disks: disks.map(({ diskId }) => diskId).toSorted(),
    };
  }

  /** Commits a tag to each disk, after its changes, and makes the recovery point. */
  async cut(
    slot: number,
    changes: ReadonlyMap<TestDisk, readonly TestChange[]>,
    tagClass: TagClass = "crash",
  ): Promise<RecoveryPoint> {
    const disks = [...changes.keys()];
    const tag = this.tag(slot, disks, tagClass);
    for (const disk of disks) await disk.commit(changes.get(disk) ?? [], { tag });
    const positions = disks.map(({ log, tip }) => ({ ...log, seq: tip.seq, head: tip.head }));
    const point = recoveryPointOf(tag, positions, this.groupKey);
    await createRecoveryPoint(this.store, this.vaultId, point);
    return point;
  }
}

/** A disk and the owner of its log. */
export class TestDisk {
  readonly vault: TestVault;
  readonly dataKey: DataKey;
  readonly log: LogId;
  #tip: LogTip | undefined;

  constructor(vault: TestVault, dataKey: DataKey, timeline = 1) {
    this.vault = vault;
    this.dataKey = dataKey;
    this.log = { vaultId: vault.vaultId, diskId: dataKey.diskId, timeline };
  }

  get diskId(): Uuid {
    return this.dataKey.diskId;
  }

  get indexRoot(): Buffer {
    return indexRootOf(this.dataKey);
  }

  get tip(): LogTip {
    return must(this.#tip, "the log was claimed");
  }

  async claim(): Promise<void> {
    const { store, randomness } = this.vault;
    this.#tip = await claimLog(store, this.log, {
      dataKey: this.dataKey,
      owner: randomUuid(randomness),
      clock: FIXTURE_CLOCK,
      randomness,
    });
  }

  /** Header of the next segment. */
  nextHeader(): ObjectHeader {
    return {
      kind: OBJECT_KINDS.SEGMENT,
      ...this.log,
      generation: this.tip.generation,
      seq: this.tip.seq + 1,
      objectId: randomUuid(this.vault.randomness),
      keyVersion: this.dataKey.version,
      createdUnixMs: FIXTURE_CLOCK.unixMs(),
    };
  }

  /** Encodes the next segment: the whole object. */
  encode(changes: readonly TestChange[], meta: Partial<SegmentMeta> = {}): TestSegment {
    const header = this.nextHeader();
    const builder = new SegmentBuilder(header, indexKeyOf(this.indexRoot, header.objectId));
    const frames = encodeChanges(changes, builder, frameKeyOf(this.dataKey, header.objectId));
    const { session, interval, intervalEnded } = this.tip.meta;
    const end = builder.finish(this.tip.head, { session, interval, intervalEnded, ...meta });
    return { header, bytes: Buffer.concat([builder.headerBytes, ...frames, end]) };
  }

  /** Encodes and commits the next segment. */
  async commit(changes: readonly TestChange[], meta: Partial<SegmentMeta> = {}): Promise<void> {
    await this.commitEncoded(this.encode(changes, meta));
  }

  async commitEncoded({ header, bytes }: TestSegment): Promise<void> {
    const { store } = this.vault;
    const { indexRoot } = this;
    const footerBytes = bytes.subarray(bytes.length - SEGMENT_FOOTER_BYTES);
    await commitSegment(store, this.log, { header, body: bodyOf(bytes), footerBytes, indexRoot });
    this.#tip = await readLogTip(store, this.log, indexRoot);
  }
}

export type TestSegment = { readonly header: ObjectHeader; readonly bytes: Buffer };

export function testDescriptor(diskId: Uuid, machineId: Uuid, sizeBytes: number): DiskDescriptor {
  return {
    diskId,
    timeline: 1,
    machineId,
    identity: "serial:fixture",
    name: "vda",
    sizeBytes,
    isBoot: true,
    machine: {
      hostName: "fixture",
      biosUuid: machineId,
      operatingSystem: "Debian GNU/Linux 13",
      kernel: "6.12",
      firmware: "bios",
      cpuCount: 1,
      memoryBytes: 2 ** 30,
    },
  };
}

/** Packs the blocks of all changes into frames of up to 16, in the order of the changes, and puts their runs. */
function encodeChanges(
  changes: readonly TestChange[],
  builder: SegmentBuilder,
  key: Buffer,
): Buffer[] {
  const context = prepareFrameContext(builder.header);
  const frames: Buffer[] = [];
  let plain: Buffer[] = [];
  let blocks: number[] = [];
  const flush = (): void => {
    if (blocks.length === 0) return;
    const target = Buffer.alloc(frameBytesMax(blocks.length));
    const frameNo = builder.frameCount;
    const input = { plain: Buffer.concat(plain), frameNo, key, context, target, targetOffset: 0 };
    const { bytes, cipherBytes } = encodeFrame(input);
    const frame = target.subarray(0, bytes);
    const place = { frameNo, offset: builder.append(frame, 1), cipherBytes };
    blocks.forEach((block, i) => builder.runs.put(block, 1, i, place));
    frames.push(frame);
    plain = [];
    blocks = [];
  };
  for (const change of changes) {
    if ("zeroCount" in change) {
      flush();
      builder.runs.putZero(change.block, change.zeroCount);
      continue;
    }
    for (let at = 0; at < change.bytes.length; at += BLOCK_BYTES) {
      plain.push(change.bytes.subarray(at, at + BLOCK_BYTES));
      blocks.push(change.block + at / BLOCK_BYTES);
      if (blocks.length === FRAME_BLOCKS_MAX) flush();
    }
  }
  flush();
  return frames;
}
