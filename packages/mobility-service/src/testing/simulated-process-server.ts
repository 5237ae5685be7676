import { must } from "@osr/base/assert";
import { createHash } from "node:crypto";

import { BLOCK_BYTES } from "@osr/base/block-range";
import { OsrError } from "@osr/base/errors";
import { type Uuid, uuidOfName } from "@osr/base/uuid";
import type {
  AckedDisk,
  BatchReply,
  ComparisonReply,
  ComparisonRequest,
  GranuleOfComparison,
  GranulesOfComparison,
  HeartbeatReply,
  HeartbeatRequest,
  RecordName,
  SessionReply,
  SessionRequest,
} from "@osr/contracts/agent-protocol";
import { ComparisonHasher, GRANULE_BYTES } from "@osr/contracts/disk-comparison";
import { HRL_TYPES, type HrlRecord, hrlRecords } from "@osr/contracts/hrl-record";
import { type Tag, decodeTag } from "@osr/contracts/tag";

import type { ProcessServerClient } from "../process-server-client.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { VirtualTime } from "./virtual-time.ts";

const HOLD_MS = 30_000;

/** Chances per request. */
export type LinkFaults = {
  readonly dropChance: number;
  readonly lostReplyChance: number;
  readonly duplicateChance: number;
  readonly cacheFullChance: number;
  readonly delayChance: number;
  readonly latencyMsMax: number;
};

const CALM: LinkFaults = {
  dropChance: 0,
  lostReplyChance: 0,
  duplicateChance: 0,
  cacheFullChance: 0,
  delayChance: 0,
  latencyMsMax: 3,
};

/** What one record did to the log of a disk. */
type Entry = { readonly interval: number; readonly record: HrlRecord };

type Disk = {
  readonly diskId: Uuid;
  readonly sizeBytes: number;
  /** What applying the whole log gives. */
  content: Buffer;
  /** What the storage account holds, and the log that is only spooled. */
  vaultedContent: Buffer;
  spooled: Entry[];
  tags: Tag[];
  vaultedTags: Tag[];
  newest: number;
  /** Newest record, and the newest one that is in the storage account. */
  last?: RecordName;
  vaultedLast?: RecordName;
  /** Next record number of intervals of this session, and which of them have ended. */
  next: Map<number, number>;
  ended: Set<number>;
  vaultedInterval: number;
  vaultedNewest: number;
  /** Records in the storage account: where the log ends. */
  vaultedRecords: number;
  comparison?: {
    readonly epoch: number;
    readonly headSeq: number;
    readonly hasher: ComparisonHasher;
  };
  isFenced: boolean;
};

/**
 * A process server that keeps the law of docs/formats/agent-protocol.md over a naive model: each disk's log is applied
 * to an array. `onTag` sees each disk's content where a tag stands in its log.
 */
export class SimulatedProcessServer implements ProcessServerClient {
  faults: LinkFaults;
  /** Requests fail until then. */
  downUntilMs = 0;
  readonly groupId = uuidOfName("group");
  health: HeartbeatRequest["health"] = [];
  /** What it says is wrong with itself. */
  ownHealth: HeartbeatRequest["health"] = [];
  /** Every request is refused with it. */
  refusal: OsrError | undefined;
  /** What the agent did against the protocol. */
  readonly violations: string[] = [];
  dataBytes = 0;
  /** Sessions that were granted. */
  sessions = 0;
  /** Called before hashes of blocks are answered. */
  beforeBlockHashes: () => void = () => undefined;
  /** The address that has the logs, and those that do not answer. */
  address = "first";
  readonly deadAddresses = new Set<string>();
  /** The log in the storage account is damaged. */
  isLogDamaged = false;
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #onTag: (tag: Tag, diskIndex: number, content: Buffer) => void;
  readonly #disks = new Map<string, Disk>();
  #epoch = 0;
  #epochFloor = 0;
  /** Grows when the process ends: what it was doing is gone. */
  #life = 0;

  constructor(
    time: VirtualTime,
    random: SeededRandom,
    options: {
      readonly faults: LinkFaults;
      readonly onTag: (tag: Tag, diskIndex: number, content: Buffer) => void;
    },
  ) {
    this.#time = time;
    this.#random = random;
    this.faults = options.faults;
    this.#onTag = options.onTag;
  }

  calm(): void {
    this.faults = CALM;
  }

  /** Ends at once and comes back: what was spooled is kept, sessions only where `keepsSessions`. */
  restart(keepsSessions: boolean): void {
    this.#life += 1;
    for (const disk of this.#disks.values()) delete disk.comparison;
    this.downUntilMs = this.#time.monotonicMs() + this.#random.below(8000);
    if (keepsSessions) return;
    this.#epoch = 0;
    for (const disk of this.#disks.values()) disk.next.clear();
  }

  /** Another one takes over: it knows only what is in the storage account. */
  replace(): void {
    this.restart(false);
    this.#takeOver();
  }

  /** Knows what is in the storage account, and nothing else. */
  #takeOver(): void {
    this.#epochFloor = 0;
    for (const disk of this.#disks.values()) {
      disk.content = Buffer.from(disk.vaultedContent);
      disk.spooled = [];
      disk.tags = [...disk.vaultedTags];
      disk.newest = disk.vaultedNewest;
      disk.ended.clear();
      if (disk.vaultedLast === undefined) delete disk.last;
      else disk.last = disk.vaultedLast;
    }
  }

  /**
   * The process server at one of its addresses: each is another one over the same storage account. Whichever opened the last
   * session has the logs; the others are fenced.
   */
  atAddress(address: string): ProcessServerClient {
    const isOwner = (): void => {
      if (this.deadAddresses.has(address)) throw unavailable();
      if (address !== this.address) throw refusal("LOG_FENCED", { kind: "handover" });
    };
    return {
      openSession: async (request, signal) => {
        if (this.deadAddresses.has(address)) return await this.#unanswered(signal);
        if (address !== this.address) {
          this.#life += 1;
          this.#epoch = 0;
          this.#takeOver();
        }
        this.address = address;
        return await this.openSession(request, signal);
      },
      sendBatch: async (...args) => (isOwner(), await this.sendBatch(...args)),
      heartbeat: async (...args) => (isOwner(), await this.heartbeat(...args)),
      openComparison: async (...args) => (isOwner(), await this.openComparison(...args)),
      granuleHashes: async (...args) => (isOwner(), await this.granuleHashes(...args)),
      blockHashes: async (...args) => (isOwner(), await this.blockHashes(...args)),
    };
  }

  async #unanswered(signal: AbortSignal): Promise<never> {
    await this.#latency(signal);
    throw unavailable();
  }

  fence(index: number): void {
    const disk = [...this.#disks.values()][index];
    if (disk !== undefined) disk.isFenced = true;
  }

  unfence(): void {
    for (const disk of this.#disks.values()) disk.isFenced = false;
  }

  /** The storage account lost the newest of what it had acknowledged. */
  rewind(index: number): void {
    this.restart(false);
    const disk = must([...this.#disks.values()][index], "disk");
    this.#takeOver();
    disk.content.fill(0);
    disk.vaultedContent.fill(0);
    disk.vaultedInterval = 0;
  }

  /** Uploads some of what is spooled, in order. */
  upload(all = false): void {
    for (const disk of this.#disks.values())
      this.#uploadOf(disk, all ? disk.spooled.length : this.#random.below(disk.spooled.length + 1));
  }

  #uploadOf(disk: Disk, count: number): void {
    for (const { interval, record } of disk.spooled.splice(0, count)) {
      this.#apply(disk.vaultedContent, record);
      disk.vaultedRecords += 1;
      disk.vaultedLast = nameOf(record);
      disk.vaultedNewest = Math.max(disk.vaultedNewest, interval);
      if (record.header.type === HRL_TYPES.MARK) disk.vaultedTags.push(decodeTag(record.payload));
      if (record.header.type === HRL_TYPES.END) disk.vaultedInterval = interval;
    }
  }

  /** Tags of copies without a quiet window that are vaulted. */
  get fuzzyTags(): number {
    const tags = [...this.#disks.values()].flatMap(({ vaultedTags }) => vaultedTags);
    return tags.filter((tag) => tag.class === "fuzzy").length;
  }

  /** Cuts whose tag is vaulted on every disk. */
  offeredPoints(): Tag[] {
    const [first] = this.#disks.values();
    return (first?.vaultedTags ?? []).filter(
      (tag) =>
        tag.class !== "fuzzy" &&
        tag.disks.every((diskId) =>
          this.#diskBy(diskId).vaultedTags.some(({ cutId }) => cutId === tag.cutId),
        ),
    );
  }

  async openSession(request: SessionRequest, signal: AbortSignal): Promise<SessionReply> {
    return await this.#exchange(signal, () => {
      if (request.epoch <= Math.max(this.#epoch, this.#epochFloor))
        throw refusal("EPOCH_STALE", { newestEpoch: Math.max(this.#epoch, this.#epochFloor) });
      if ([...this.#disks.values()].some(({ isFenced }) => isFenced))
        throw refusal("LOG_FENCED", { kind: "failover" });
      this.#epoch = request.epoch;
      this.sessions += 1;
      this.#epochFloor = request.epoch;
      const disks = request.disks.map(({ identity, sizeBytes }) => {
        const disk = this.#diskOf(identity, sizeBytes);
        disk.next.clear();
        const history = disk.newest > 0 ? { history: { sizeBytes: disk.sizeBytes } } : {};
        const last = disk.last === undefined ? {} : { last: disk.last };
        return { ...ackOf(disk), identity, nextInterval: disk.newest + 1, ...history, ...last };
      });
      const slots = [...this.#disks.values()].flatMap(({ tags }) => tags.map(({ slot }) => slot));
      return { groupId: this.groupId, newestSlot: Math.max(-1, ...slots), disks };
    });
  }

  async sendBatch(diskId: Uuid, body: Buffer, signal: AbortSignal): Promise<BatchReply> {
    this.dataBytes += body.length;
    // The network has a copy of its own.
    const copy = Buffer.from(body);
    const isFull = this.#random.chance(this.faults.cacheFullChance);
    if (isFull) {
      await this.#latency(signal);
      throw refusal("CACHE_FULL", { retryAfterMs: 1000 }, true);
    }
    if (this.#random.chance(this.faults.duplicateChance))
      void this.#exchange(signal, () => this.#take(diskId, copy)).catch(() => undefined);
    return await this.#exchange(signal, () => this.#take(diskId, copy));
  }

  async heartbeat(request: HeartbeatRequest, signal: AbortSignal): Promise<HeartbeatReply> {
    return await this.#exchange(signal, () => {
      if (request.epoch !== this.#epoch) throw refusal("SESSION_REPLACED");
      this.health = request.health;
      const point = this.offeredPoints().at(-1);
      const disks = [...this.#disks.values()].map(ackOf);
      const unixMs = this.#time.unixMs() - this.#time.unixOffsetMs;
      const newestPoint = point === undefined ? {} : { newestPoint: point };
      return { disks, delayMs: 0, unixMs, health: this.ownHealth, ...newestPoint };
    });
  }

  async openComparison(
    diskId: Uuid,
    { epoch }: ComparisonRequest,
    signal: AbortSignal,
  ): Promise<ComparisonReply> {
    return await this.#exchange(signal, () => {
      if (epoch !== this.#epoch) throw refusal("SESSION_REPLACED");
      const disk = this.#diskBy(diskId);
      if (disk.isFenced) throw refusal("LOG_FENCED", { kind: "failover" });
      if (this.isLogDamaged) throw refusal("COMPARISON_FAILED");
      if (disk.spooled.length > 0 && this.#random.chance(0.5))
        throw refusal("COMPARISON_NOT_READY", { retryAfterMs: 500 }, true);
      this.#uploadOf(disk, disk.spooled.length);
      const headSeq = disk.vaultedRecords;
      const key = createHash("sha256").update(`${diskId}/${headSeq}`).digest();
      disk.comparison = { epoch, headSeq, hasher: new ComparisonHasher(key) };
      const blockCount = disk.content.length / BLOCK_BYTES;
      return { headSeq, blockCount, key: key.toString("hex") };
    });
  }

  async granuleHashes(
    diskId: Uuid,
    at: GranulesOfComparison,
    signal: AbortSignal,
  ): Promise<Buffer> {
    return await this.#exchange(signal, () => {
      const hasher = this.#hasherOf(diskId, at);
      const count = 1 + this.#random.below(at.count);
      const granules = Array.from({ length: count }, (_, index) =>
        hasher.granule(this.#granuleOf(diskId, at.granule + index)),
      );
      return Buffer.concat(granules);
    });
  }

  async blockHashes(diskId: Uuid, at: GranuleOfComparison, signal: AbortSignal): Promise<Buffer> {
    this.beforeBlockHashes();
    return await this.#exchange(signal, () =>
      this.#hasherOf(diskId, at).blocks(this.#granuleOf(diskId, at.granule)),
    );
  }

  #hasherOf(diskId: Uuid, at: GranuleOfComparison): ComparisonHasher {
    const disk = this.#diskBy(diskId);
    if (at.epoch !== this.#epoch) throw refusal("SESSION_REPLACED");
    const { comparison } = disk;
    const isOpen = comparison?.epoch === at.epoch && comparison.headSeq === at.headSeq;
    const isAtHead = disk.vaultedRecords + disk.spooled.length === at.headSeq;
    // Now and then its place was needed for another disk.
    if (!isOpen || !isAtHead || this.#random.chance(this.faults.dropChance))
      throw refusal("COMPARISON_GONE");
    return comparison.hasher;
  }

  #granuleOf(diskId: Uuid, granule: number): Buffer {
    const bytes = Buffer.alloc(GRANULE_BYTES);
    this.#diskBy(diskId).vaultedContent.copy(bytes, 0, granule * GRANULE_BYTES);
    return bytes;
  }

  #diskBy(diskId: Uuid): Disk {
    const disk = [...this.#disks.values()].find((candidate) => candidate.diskId === diskId);
    if (disk === undefined) throw refusal("DISK_FOREIGN");
    return disk;
  }

  /** One request over a bad network: it may be lost on its way there, or its reply on the way back. */
  async #exchange<T>(signal: AbortSignal, effect: () => T | Promise<T>): Promise<T> {
    await this.#latency(signal);
    const isDown = this.#time.monotonicMs() < this.downUntilMs;
    if (isDown || this.#random.chance(this.faults.dropChance)) throw unavailable();
    if (this.refusal !== undefined) throw this.refusal;
    const life = this.#life;
    const result = await effect();
    await this.#latency(signal);
    if (this.#life !== life || this.#random.chance(this.faults.lostReplyChance))
      throw unavailable();
    return result;
  }

  async #latency(signal: AbortSignal): Promise<void> {
    await this.#time.sleep(this.#random.below(this.faults.latencyMsMax), signal);
  }

  async #take(diskId: Uuid, body: Buffer): Promise<BatchReply> {
    const life = this.#life;
    const disk = [...this.#disks.values()].find((candidate) => candidate.diskId === diskId);
    if (disk === undefined) throw refusal("NOT_FOUND");
    const records = [...hrlRecords(body)];
    const first = records[0]?.header;
    if (first === undefined) throw refusal("HRL_INVALID");
    for (const [index, { header }] of records.entries())
      if (
        header.session !== first.session ||
        header.interval !== first.interval ||
        header.recordNo !== first.recordNo + index
      )
        this.violations.push("the records of a batch do not follow each other");
    const heldUntilMs = this.#time.monotonicMs() + HOLD_MS;
    for (;;) {
      if (this.#life !== life) throw unavailable();
      if (first.session !== this.#epoch) throw refusal("SESSION_REPLACED");
      if (disk.isFenced) throw refusal("LOG_FENCED", { kind: "failover" });
      if (this.#isNext(disk, first, first.recordNo + records.length - 1)) break;
      if (this.#time.monotonicMs() >= heldUntilMs) throw this.#outOfOrder(disk);
      await this.#time.sleep(5);
    }
    for (const record of records) this.#append(disk, record);
    const delayMs = this.#random.chance(this.faults.delayChance) ? this.#random.below(500) : 0;
    return { ...ackOf(disk), delayMs };
  }

  /** False where records before it are missing; throws where they never come. */
  #isNext(disk: Disk, first: { interval: number; recordNo: number }, last: number): boolean {
    const next = disk.next.get(first.interval);
    if (next !== undefined && last < next) return true;
    if (first.interval > disk.newest) {
      const isWhole = !disk.next.has(disk.newest) || disk.ended.has(disk.newest);
      if (!isWhole) this.violations.push("a new interval began before the last one was answered");
      return first.recordNo === 0;
    }
    if (next === undefined || first.interval < disk.newest) throw this.#outOfOrder(disk);
    return first.recordNo <= next;
  }

  #append(disk: Disk, record: HrlRecord): void {
    const { interval, recordNo, type, count } = record.header;
    if (recordNo < (disk.next.get(interval) ?? 0)) return;
    if (type === HRL_TYPES.END && count !== recordNo) this.violations.push("END counts wrongly");
    disk.next.set(interval, recordNo + 1);
    disk.newest = interval;
    disk.last = nameOf(record);
    disk.spooled.push({ interval, record });
    this.#apply(disk.content, record);
    if (type === HRL_TYPES.END) disk.ended.add(interval);
    if (type !== HRL_TYPES.MARK) return;
    const tag = decodeTag(record.payload);
    disk.tags.push(tag);
    this.#onTag(tag, [...this.#disks.values()].indexOf(disk), disk.content);
  }

  #apply(content: Buffer, { header, payload }: HrlRecord): void {
    const from = header.block * BLOCK_BYTES;
    if (header.type === HRL_TYPES.DATA) payload.copy(content, from);
    if (header.type === HRL_TYPES.ZERO) content.fill(0, from, from + header.count * BLOCK_BYTES);
  }

  #outOfOrder(disk: Disk): OsrError {
    const isOpen = disk.next.has(disk.newest) && !disk.ended.has(disk.newest);
    const interval = isOpen ? disk.newest : disk.newest + 1;
    return refusal("RECORDS_OUT_OF_ORDER", { interval, recordNo: disk.next.get(interval) ?? 0 });
  }

  #diskOf(identity: string, sizeBytes: number): Disk {
    const known = this.#disks.get(identity);
    const bytes = Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
    if (known !== undefined) {
      known.content = resized(known.content, bytes);
      known.vaultedContent = resized(known.vaultedContent, bytes);
      return known;
    }
    const disk: Disk = {
      diskId: uuidOfName("disk", identity),
      sizeBytes,
      content: Buffer.alloc(bytes),
      vaultedContent: Buffer.alloc(bytes),
      spooled: [],
      tags: [],
      vaultedTags: [],
      newest: 0,
      next: new Map(),
      ended: new Set(),
      vaultedInterval: 0,
      vaultedNewest: 0,
      vaultedRecords: 0,
      isFenced: false,
    };
    this.#disks.set(identity, disk);
    return disk;
  }
}

function nameOf({ header: { session, interval, recordNo } }: HrlRecord): RecordName {
  return { session, interval, recordNo };
}

function resized(content: Buffer, bytes: number): Buffer {
  if (content.length === bytes) return content;
  const grown = Buffer.alloc(bytes);
  content.copy(grown);
  return grown;
}

function ackOf(disk: Disk): AckedDisk {
  const recordNo = disk.next.get(disk.newest);
  return {
    diskId: disk.diskId,
    spooledInterval: recordNo === undefined ? -1 : disk.newest,
    spooledRecordNo: recordNo === undefined ? -1 : recordNo - 1,
    vaultedInterval: disk.vaultedInterval,
  };
}

function refusal(code: string, details: object = {}, retryable = false): OsrError {
  return new OsrError({ code, retryable, hint: "simulated" }, code, { details });
}

function unavailable(): OsrError {
  return refusal("PEER_UNAVAILABLE", {}, true);
}
