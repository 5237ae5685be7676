import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";

import { must } from "@osr/base/assert";
import { NO_HEAD, SEGMENT_FOOTER_BYTES } from "@osr/repository/segment-footer";
import { SegmentBuilder } from "@osr/repository/segment-builder";
import type { SegmentMeta } from "@osr/repository/segment-meta";

import { type ClosedSegment, closedSegmentOf } from "./closed-segment.ts";
import { ContentMac } from "./content-mac.ts";
import type { EncodedBatch } from "./encode-batch.ts";
import { syncDirectory, writeFully } from "./file-writing.ts";
import type { JournalEntry } from "./journal-entry.ts";
import { encodeJournalHead, sealJournalEntry } from "./journal-format.ts";
import { type LastRecord, lastRecordOf } from "./last-record.ts";
import { appendEntry, metaAfter } from "./segment-entry.ts";
import type { SegmentPlan } from "./segment-plan.ts";
import type { SegmentPaths } from "./spool-layout.ts";

/**
 * The future segment that batches are appended to. Write order: frames, journal entry, `sync` of both, only then is a
 * batch spooled. After any call has failed nothing but `dispose` may follow: the files are then recovered as after a crash.
 */
export class OpenSegment implements AsyncDisposable {
  readonly plan: SegmentPlan;
  readonly paths: SegmentPaths;
  readonly #seg: FileHandle;
  readonly #jnl: FileHandle;
  readonly #builder: SegmentBuilder;
  readonly #macKey: Buffer;
  readonly #mac: ContentMac;
  #meta: SegmentMeta;
  #journalBytes: number;
  #entryNoNext = 0;
  #last: LastRecord | undefined;

  private constructor(
    plan: SegmentPlan,
    files: { paths: SegmentPaths; seg: FileHandle; jnl: FileHandle },
    state: { builder: SegmentBuilder; macKey: Buffer; meta: SegmentMeta; journalBytes: number },
  ) {
    this.plan = plan;
    this.paths = files.paths;
    this.#seg = files.seg;
    this.#jnl = files.jnl;
    this.#builder = state.builder;
    this.#macKey = state.macKey;
    this.#mac = new ContentMac(state.macKey);
    this.#mac.update(state.builder.headerBytes);
    this.#meta = state.meta;
    this.#journalBytes = state.journalBytes;
  }

  /**
   * `meta`: as the log is before this segment; `macKey`: CONTENT_MAC_KEY_BYTES, fresh. The journal is made first: a `.seg`
   * without one was never written to.
   */
  static async create(
    plan: SegmentPlan,
    paths: SegmentPaths,
    meta: SegmentMeta,
    macKey: Buffer,
  ): Promise<OpenSegment> {
    const builder = new SegmentBuilder(plan.header, plan.indexKey);
    const head = encodeJournalHead({
      objectId: plan.header.objectId,
      diskId: plan.header.diskId,
    });
    const jnl = await open(paths.jnl, "wx", 0o600);
    let seg: FileHandle | undefined;
    try {
      await writeFully(jnl, head, 0);
      seg = await open(paths.seg, "wx", 0o600);
      await writeFully(seg, builder.headerBytes, 0);
      await syncDirectory(dirname(paths.seg));
    } catch (error) {
      await Promise.all([jnl.close(), seg?.close()]);
      throw error;
    }
    const journalBytes = head.length;
    return new OpenSegment(plan, { paths, seg, jnl }, { builder, macKey, meta, journalBytes });
  }

  get sizeBytes(): number {
    return this.#builder.sizeBytes;
  }

  get runs(): number {
    return this.#builder.runs.size;
  }

  /** Appends one batch. It is not durable yet. */
  async append(
    batch: Omit<JournalEntry, "framesOffset" | "frames">,
    encoded: EncodedBatch,
  ): Promise<void> {
    const { frames, bytes } = encoded;
    const framesOffset = this.#builder.sizeBytes;
    const entry = { ...batch, framesOffset, frames };
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    await writeFully(this.#seg, content, framesOffset);
    const sealed = sealJournalEntry(entry, this.#entryNoNext, this.plan.indexKey);
    await writeFully(this.#jnl, sealed, this.#journalBytes);
    appendEntry(this.#builder, entry, content);
    this.#mac.update(content);
    this.#entryNoNext += 1;
    this.#journalBytes += sealed.length;
    this.#meta = metaAfter(this.#meta, batch);
    this.#last = lastRecordOf(batch);
  }

  /** Makes everything durable that was appended. */
  async sync(): Promise<void> {
    await Promise.all([this.#seg.datasync(), this.#jnl.datasync()]);
  }

  /** Writes index and footer, whose previous head is not yet known. All of it was synced before. */
  async close(): Promise<ClosedSegment> {
    const last = must(this.#last, "a segment has at least one batch");
    const indexOffset = this.#builder.sizeBytes;
    const tail = this.#builder.finish(NO_HEAD, this.#meta);
    await writeFully(this.#seg, tail, indexOffset);
    await this.#seg.datasync();
    this.#mac.update(tail.subarray(0, -SEGMENT_FOOTER_BYTES));
    const mac = { key: this.#macKey, digest: this.#mac.digest() };
    return closedSegmentOf(
      this.plan,
      this.paths,
      { meta: this.#meta, last },
      { indexOffset, tail, mac },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#seg.close(), this.#jnl.close()]);
  }
}
