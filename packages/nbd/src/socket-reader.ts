import type { Duplex } from "node:stream";

import { OsrError, defineErrors } from "@osr/base/errors";

export const SOCKET_ERRORS = defineErrors({
  NBD_CLIENT_GONE: {
    retryable: true,
    hint: "The client closed its connection; nothing is to be done.",
  },
});

/** Reads a stream in counted pieces, for the negotiation. It keeps at most what the stream delivers at once. */
export class SocketReader {
  readonly #socket: Duplex;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #gone = false;
  #waiting: { readonly bytes: number; readonly wake: () => void } | undefined;
  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    this.#socket.pause();
    this.#wake();
  };
  readonly #onGone = (): void => {
    this.#gone = true;
    this.#wake();
  };

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on("data", this.#onData).on("end", this.#onGone).on("close", this.#onGone);
  }

  /** The next `bytes` bytes. Throws NBD_CLIENT_GONE. */
  async read(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      if (this.#gone) throw new OsrError(SOCKET_ERRORS.NBD_CLIENT_GONE, "the NBD client has gone");
      await new Promise<void>((wake) => {
        this.#waiting = { bytes, wake };
        this.#socket.resume();
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0] : undefined;
    const joined = all ?? Buffer.concat(this.#chunks, this.#bytes);
    this.#chunks = joined.length === bytes ? [] : [joined.subarray(bytes)];
    this.#bytes -= bytes;
    return joined.subarray(0, bytes);
  }

  /** Lets go of the stream, paused, and gives what was received and not read. */
  detach(): Buffer {
    this.#socket.off("data", this.#onData).off("end", this.#onGone).off("close", this.#onGone);
    this.#socket.pause();
    return Buffer.concat(this.#chunks, this.#bytes);
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || (this.#bytes < waiting.bytes && !this.#gone)) {
      if (waiting !== undefined) this.#socket.resume();
      return;
    }
    this.#waiting = undefined;
    waiting.wake();
  }
}
