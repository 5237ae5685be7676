import { writevSync } from "node:fs";

import { BLOCK_BYTES } from "@osr/base/block-range";
import type { ErrorInfo } from "@osr/base/errors";

import { type FrameOrigin, prepareFrameContext } from "./frame.ts";
import { FrameMemory, type FramePiece, decodePieces } from "./frame-read.ts";

/** Blocks that go to the output with one system call. */
const WRITE_BUFFERS_MAX = 64;

/**
 * Of one thread. Each buffer that waits to be written may be of another frame, and the next one is decoded before they go.
 * Without it every frame left 100 KiB behind, and collecting them took a fifth of the processor time.
 */
const memory = new FrameMemory(WRITE_BUFFERS_MAX + 1);

/** Frames that were read, to be decoded and written to an open file. Crosses to a worker thread. */
export type MaterialiseJob = {
  readonly jobNo: number;
  /** File descriptor of the output; threads of a process share them. */
  readonly fd: number;
  /** Bytes of the disk: the last block may be written in part. */
  readonly sizeBytes: number;
  readonly origin: FrameOrigin;
  readonly frameKey: Uint8Array;
  /** Place of `bytes` in the object. */
  readonly offset: number;
  readonly bytes: SharedArrayBuffer;
  readonly byteLength: number;
  readonly pieces: readonly FramePiece[];
};

export type MaterialiseReply = {
  readonly jobNo: number;
  readonly failure?: ErrorInfo & { readonly message: string; readonly details: object };
};

/** Decodes the frames of a job and writes their blocks to their places. */
export function runMaterialiseJob(job: MaterialiseJob): void {
  const bytes = Buffer.from(job.bytes, 0, job.byteLength);
  const context = prepareFrameContext(job.origin);
  const key = Buffer.from(job.frameKey);
  const writer = new AdjacentWriter(job.fd);
  decodePieces(job, bytes, { key, context, memory }, (piece, blocks) => {
    const position = piece.block * BLOCK_BYTES;
    writer.write(position, blocks.subarray(0, Math.max(0, job.sizeBytes - position)));
  });
  writer.flush();
}

/** Writes buffers, those that are neighbours on the disk with one call. */
class AdjacentWriter {
  readonly #fd: number;
  #buffers: Buffer[] = [];
  #start = 0;
  #end = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(position: number, bytes: Buffer): void {
    if (position !== this.#end || this.#buffers.length === WRITE_BUFFERS_MAX) this.flush();
    if (this.#buffers.length === 0) this.#start = position;
    this.#buffers.push(bytes);
    this.#end = position + bytes.length;
  }

  flush(): void {
    let position = this.#start;
    let buffers = this.#buffers;
    while (position < this.#end) {
      const written = writevSync(this.#fd, buffers, position);
      position += written;
      buffers = withoutFirst(buffers, written);
    }
    this.#buffers = [];
  }
}

function withoutFirst(buffers: readonly Buffer[], bytes: number): Buffer[] {
  const rest: Buffer[] = [];
  let skip = bytes;
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(skip === 0 ? buffer : buffer.subarray(skip));
    skip = Math.max(0, skip - buffer.length);
  }
  return rest;
}
