import type { IncomingMessage } from "node:http";

import { must } from "@osr/base/assert";

import { takeChunks } from "./body-chunks.ts";

/** Pieces that wait to be taken; beyond that the sender waits. */
const PIECES_READY_MAX = 1;

/**
 * The body of a message in pieces that are larger than the 16 KiB in which TLS gives it, while it arrives. Pieces that are
 * released are filled again, so that a body of any length needs the memory of a few.
 */
export class BodyPieces {
  readonly #message: IncomingMessage;
  readonly #pieceBytes: number;
  readonly #released: Buffer[] = [];
  readonly #ready: Buffer[] = [];
  #filling: Buffer | undefined;
  #filled = 0;
  #wake = Promise.withResolvers<void>();

  constructor(message: IncomingMessage, pieceBytes: number) {
    this.#message = message;
    this.#pieceBytes = pieceBytes;
  }

  /**
   * All bytes in order, in pieces of `pieceBytes`, the last one shorter; to be called once. Throws BODY_INCOMPLETE. Who leaves
   * early leaves the message alive, so that it can still be answered.
   */
  async *pieces(): AsyncGenerator<Buffer> {
    const chunks = takeChunks(this.#message, (chunk) => this.#take(chunk));
    const end: { reached?: true; error?: unknown } = {};
    const onEnd = (error?: unknown): void => {
      end.reached = true;
      end.error = error;
      this.#wake.resolve();
    };
    chunks.ended.then(() => onEnd(), onEnd);
    try {
      for (;;) {
        for (let piece = this.#ready.shift(); piece !== undefined; piece = this.#ready.shift()) {
          this.#message.resume();
          yield piece;
        }
        if (end.reached === true) break;
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
      }
    } finally {
      if (end.reached !== true) chunks.stop();
    }
    if (end.error !== undefined) throw end.error;
    if (this.#filling !== undefined) yield this.#filling.subarray(0, this.#filled);
  }

  /** The taker is done with a piece: its memory may be written to again. */
  release(piece: Uint8Array): void {
    if (piece.byteLength === this.#pieceBytes) this.#released.push(piece as Buffer);
  }

  #take(chunk: Buffer): void {
    for (let taken = 0; taken < chunk.length;) {
      this.#filling ??= this.#released.pop() ?? Buffer.allocUnsafeSlow(this.#pieceBytes);
      const copied = chunk.copy(this.#filling, this.#filled, taken);
      taken += copied;
      this.#filled += copied;
      if (this.#filled === this.#pieceBytes) this.#finish();
    }
  }

  #finish(): void {
    this.#ready.push(must(this.#filling, "a piece is being filled"));
    this.#filling = undefined;
    this.#filled = 0;
    if (this.#ready.length >= PIECES_READY_MAX) this.#message.pause();
    this.#wake.resolve();
  }
}
