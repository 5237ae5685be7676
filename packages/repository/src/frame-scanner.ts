import { OsrError } from "@osr/base/errors";

import {
  FRAME_BLOCKS_MAX,
  type FrameContext,
  checkFrame,
  decodeFrame,
  frameBytesMax,
} from "./frame.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";

export type FrameKeys = { readonly key: Buffer; readonly context: FrameContext };

/**
 * Checks the frames of an object as its bytes come by: checksum, number and, with keys, the decoding. Remembers where each
 * frame is, so that the runs of the index can be held against it.
 */
export class FrameScanner {
  readonly #keys: FrameKeys | undefined;
  readonly #offsets: number[] = [];
  readonly #blocks: number[] = [];
  readonly #framesEnd: number;
  #carry: Buffer = Buffer.alloc(0);
  #offset: number;

  /** Frames lie in [framesStart, framesEnd) of the object. */
  constructor(framesStart: number, framesEnd: number, keys: FrameKeys | undefined) {
    this.#offset = framesStart;
    this.#framesEnd = framesEnd;
    this.#keys = keys;
  }

  get frameCount(): number {
    return this.#offsets.length;
  }

  /** Takes the next bytes of the frames. Throws FRAME_DAMAGED, FRAME_UNAUTHENTIC. */
  feed(bytes: Buffer): void {
    const all = this.#carry.length === 0 ? bytes : Buffer.concat([this.#carry, bytes]);
    const isLast = this.#offset + all.length >= this.#framesEnd;
    // Before the last bytes, a frame is looked at only when the largest one would be whole.
    const bytesMin = isLast ? 1 : frameBytesMax(FRAME_BLOCKS_MAX);
    let at = 0;
    while (all.length - at >= bytesMin) at += this.#check(all, at);
    this.#carry = Buffer.from(all.subarray(at));
  }

  /** Throws INDEX_DAMAGED unless blocks [offsetInFrame, offsetInFrame + count) are in the frame of that number there. */
  checkRun(frameNo: number, frameOffset: number, offsetInFrame: number, count: number): void {
    const isThere =
      this.#offsets[frameNo] === frameOffset &&
      offsetInFrame + count <= (this.#blocks[frameNo] ?? 0);
    if (!isThere)
      throw new OsrError(
        REPOSITORY_ERRORS.INDEX_DAMAGED,
        `a run names frame ${frameNo} at byte ${frameOffset}, which is not there or too short`,
      );
  }

  #check(bytes: Buffer, at: number): number {
    const frameNo = this.#offsets.length;
    const info = checkFrame(bytes, at);
    if (info.frameNo !== frameNo)
      throw new OsrError(
        REPOSITORY_ERRORS.FRAME_DAMAGED,
        `frame ${info.frameNo} at byte ${this.#offset} is in the place of frame ${frameNo}`,
      );
    if (this.#keys !== undefined) decodeFrame({ bytes, offset: at, frameNo, ...this.#keys });
    this.#offsets.push(this.#offset);
    this.#blocks.push(info.blocks);
    this.#offset += info.bytes;
    return info.bytes;
  }
}
