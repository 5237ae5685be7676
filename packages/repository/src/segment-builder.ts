import { type Hash, createHash } from "node:crypto";

import { assert } from "@osr/base/assert";
import { MIB } from "@osr/base/units";

import { type ObjectHeader, OBJECT_HEADER_BYTES, encodeObjectHeader } from "./object-header.ts";
import { OBJECT_BYTES_MAX } from "./object-store.ts";
import { RunMap } from "./run-map.ts";
import { SEGMENT_FOOTER_BYTES, encodeFooter } from "./segment-footer.ts";
import { encodeIndex } from "./segment-index.ts";
import type { SegmentMeta } from "./segment-meta.ts";

/** Index bytes to reserve: a run may be split once by each later one, and random columns hardly shrink. */
const INDEX_BYTES_PER_RUN_MAX = 48;
const INDEX_BYTES_FIXED = 2 * MIB;

/**
 * Numbers of a segment in the making: header, places, hash, runs. Does no I/O: the owner writes `headerBytes`, then what
 * it gives to `append`, then what `finish` returns.
 */
export class SegmentBuilder {
  readonly header: ObjectHeader;
  readonly headerBytes: Buffer;
  /** Which blocks the segment changes. The owner puts runs as it appends their frames. */
  readonly runs = new RunMap();
  readonly #indexKey: Buffer;
  readonly #hash: Hash = createHash("sha256");
  #sizeBytes = OBJECT_HEADER_BYTES;
  #frameCount = 0;
  #isFinished = false;

  constructor(header: ObjectHeader, indexKey: Buffer) {
    this.header = header;
    this.headerBytes = encodeObjectHeader(header);
    this.#indexKey = indexKey;
    this.#hash.update(this.headerBytes);
  }

  /** Bytes so far: where the next frame starts. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Frames so far: the number of the next one. */
  get frameCount(): number {
    return this.#frameCount;
  }

  /** The object is at most this long when it is finished now. Its owner keeps that within OBJECT_BYTES_MAX. */
  get sizeBytesMax(): number {
    const indexBytesMax = INDEX_BYTES_FIXED + this.runs.size * INDEX_BYTES_PER_RUN_MAX;
    return this.#sizeBytes + indexBytesMax + SEGMENT_FOOTER_BYTES;
  }

  /** Takes `frames` whole encoded frames, one after the other. Returns where the first one starts in the object. */
  append(encodedFrames: Buffer, frames: number): number {
    assert(!this.#isFinished, "a finished segment takes no frames");
    assert(encodedFrames.length % 16 === 0, "frames are padded to 16 bytes");
    const offset = this.#sizeBytes;
    this.#hash.update(encodedFrames);
    this.#sizeBytes += encodedFrames.length;
    this.#frameCount += frames;
    return offset;
  }

  /**
   * The index and the footer, whose last 128 bytes are the footer. `previousHead` is NO_HEAD where it is not yet known;
   * chainFooter sets it then.
   */
  finish(previousHead: Buffer, meta: SegmentMeta): Buffer {
    assert(!this.#isFinished, "a segment is finished once");
    assert(meta.fence === undefined || this.#frameCount === 0, "a fence has no frames");
    this.#isFinished = true;
    const owner = { header: this.header, indexKey: this.#indexKey };
    const index = encodeIndex(meta, this.runs.resolve(), owner);
    this.#hash.update(index.bytes);
    const footer = encodeFooter({
      isFence: meta.fence !== undefined,
      endsWithTag: meta.tag !== undefined,
      indexOffset: this.#sizeBytes,
      indexBytes: index.bytes.length,
      directoryBytes: index.directoryBytes,
      frameCount: this.#frameCount,
      runCount: index.runCount,
      zeroRunCount: index.zeroRunCount,
      previousHead,
      contentSha256: this.#hash.digest(),
      slot: meta.tag?.slot ?? 0,
    });
    this.#sizeBytes += index.bytes.length + footer.length;
    assert(this.#sizeBytes <= OBJECT_BYTES_MAX, "a segment is within its limit");
    return Buffer.concat([index.bytes, footer]);
  }
}
