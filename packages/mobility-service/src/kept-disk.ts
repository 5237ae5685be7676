import { createHash } from "node:crypto";

import { must } from "@osr/base/assert";
import { blocksOf } from "@osr/base/block-range";
import type { Uuid } from "@osr/base/uuid";
import { isUuid } from "@osr/base/uuid";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";
import { INTERVALS_OPEN_MAX, type RecordName } from "@osr/contracts/agent-protocol";
import type { SectorCounts } from "@osr/block-device/change-tracker";

import { pagesOf } from "./dirty-set.ts";
import type { KeptFields, KeptNumbers, KeptText } from "./kept-fields.ts";
import type { ResyncReason } from "./resync-reason.ts";

const LABEL_BYTES = 64;
const DISK_ID_BYTES = 40;
const REASON_BYTES_MAX = 32;

/** Words of a disk. */
const USED = 0;
const STAGE = 1;
const ENDED_INTERVAL = 2;
const VAULTED_INTERVAL = 3;
const TABLES_AT = 4;
const WORDS = 5;

const STAGE_INITIAL = 1;
const STAGE_DELTA = 2;
const STAGE_RESYNC = 3;

/** What is dirty of a disk and what is known of it besides: see ReplicationStage. */
export type KeptStage =
  | { readonly kind: "initial" | "delta" }
  | { readonly kind: "resync"; readonly reason: ResyncReason };

/** The part of the kept state that is about one disk. */
export class KeptDisk {
  /** Names the disk in lists of runs and in counts. */
  readonly slot: number;
  /** For each set of an interval: the highest interval that it covers, or 0. */
  readonly throughs: Uint32Array;
  readonly #words: Uint32Array;
  readonly #label: KeptText;
  readonly #diskId: KeptText;
  readonly #reason: KeptText;
  /** Session, interval and number of the last record that was acknowledged. */
  readonly #acked: KeptNumbers;
  /** Known or not, written, discarded. */
  readonly #baseline: KeptNumbers;
  #tables: readonly Uint32Array[] = [];

  constructor(slot: number, fields: KeptFields) {
    this.slot = slot;
    this.#words = fields.words(WORDS);
    this.throughs = fields.words(INTERVALS_OPEN_MAX);
    this.#label = fields.text(LABEL_BYTES);
    this.#diskId = fields.text(DISK_ID_BYTES);
    this.#reason = fields.text(REASON_BYTES_MAX);
    this.#acked = fields.numbers(3);
    this.#baseline = fields.numbers(3);
  }

  /** Words of the tables of all sets of a disk. */
  static tableWords(disk: ProtectableDisk): number {
    return pagesOf(blocksOf(disk.sizeBytes)) * (1 + INTERVALS_OPEN_MAX);
  }

  get isUsed(): boolean {
    return this.#words[USED] === 1;
  }

  /** Whether this is what an earlier process knew of the disk, and the disk is still the same. */
  isOf(disk: ProtectableDisk): boolean {
    return this.isUsed && this.#label.value === labelOf(disk);
  }

  /** Where the tables are, in words of their area. */
  get tablesAt(): number {
    return must(this.#words[TABLES_AT], "place");
  }

  /** Begins anew: nothing is known of the disk. */
  begin(disk: ProtectableDisk, tablesAt: number, area: Uint32Array): void {
    this.#words.fill(0);
    this.throughs.fill(0);
    this.#diskId.value = "";
    this.#acked.next.fill(0);
    this.#acked.commit();
    this.baseline = undefined;
    this.#label.value = labelOf(disk);
    this.#words[TABLES_AT] = tablesAt;
    this.useTables(disk, area);
    for (const table of this.#tables) table.fill(0);
    this.#words[USED] = 1;
  }

  useTables(disk: ProtectableDisk, area: Uint32Array): void {
    const pages = pagesOf(blocksOf(disk.sizeBytes));
    const at = this.tablesAt;
    this.#tables = Array.from({ length: 1 + INTERVALS_OPEN_MAX }, (_, index) =>
      area.subarray(at + index * pages, at + (index + 1) * pages),
    );
  }

  forget(): void {
    this.#words[USED] = 0;
  }

  get liveTable(): Uint32Array {
    return must(this.#tables[0], "tables");
  }

  intervalTable(index: number): Uint32Array {
    return must(this.#tables[1 + index], "tables");
  }

  get stage(): KeptStage | undefined {
    switch (this.#words[STAGE]) {
      case STAGE_INITIAL:
        return { kind: "initial" };
      case STAGE_DELTA:
        return { kind: "delta" };
      case STAGE_RESYNC:
        return { kind: "resync", reason: this.#reason.value as ResyncReason };
      default:
        return undefined;
    }
  }

  setStage(stage: KeptStage): void {
    if (stage.kind === "resync") this.#reason.value = stage.reason;
    this.#words[STAGE] =
      stage.kind === "initial"
        ? STAGE_INITIAL
        : stage.kind === "delta"
          ? STAGE_DELTA
          : STAGE_RESYNC;
  }

  /** Newest interval whose END is spooled: none above it can be vaulted. */
  get endedInterval(): number {
    return must(this.#words[ENDED_INTERVAL], "interval");
  }

  set endedInterval(interval: number) {
    this.#words[ENDED_INTERVAL] = interval;
  }

  /** Highest interval that was acknowledged as vaulted, in whatever session. */
  get vaultedInterval(): number {
    return must(this.#words[VAULTED_INTERVAL], "interval");
  }

  set vaultedInterval(interval: number) {
    this.#words[VAULTED_INTERVAL] = interval;
  }

  get diskId(): Uuid | undefined {
    const { value } = this.#diskId;
    return isUuid(value) ? value : undefined;
  }

  set diskId(diskId: Uuid) {
    if (this.#diskId.value !== diskId) this.#diskId.value = diskId;
  }

  get acked(): RecordName {
    const [session = 0, interval = 0, recordNo = 0] = this.#acked.current;
    return { session, interval, recordNo };
  }

  set acked({ session, interval, recordNo }: RecordName) {
    const { next } = this.#acked;
    next[0] = session;
    next[1] = interval;
    next[2] = recordNo;
    this.#acked.commit();
  }

  get baseline(): SectorCounts | undefined {
    const [isKnown = 0, written = 0, discarded = 0] = this.#baseline.current;
    return isKnown === 1 ? { written, discarded } : undefined;
  }

  set baseline(baseline: SectorCounts | undefined) {
    const { next } = this.#baseline;
    next[0] = baseline === undefined ? 0 : 1;
    next[1] = baseline?.written ?? 0;
    next[2] = baseline?.discarded ?? 0;
    this.#baseline.commit();
  }
}

/** What must not have changed. Where swap was, nothing was followed. */
function labelOf(disk: ProtectableDisk): string {
  const { identity, sizeBytes, sequence, major, minor, swapRanges } = disk;
  const label = JSON.stringify({ identity, sizeBytes, sequence, major, minor, swapRanges });
  // A swap file may be in many pieces.
  return createHash("sha256").update(label).digest("hex");
}
