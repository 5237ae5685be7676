import { once } from "node:events";
import { type Socket, connect } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

import { must } from "@osr/base/assert";
import { OsrError } from "@osr/base/errors";

import { BENCH_ERRORS } from "../bench-errors.ts";

const CONNECT_POLL_MS = 2;
const HELLO_BYTES = 18;
const EXPORT_BYTES = 10;
const REPLY_BYTES = 16;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;

/**
 * A client of NBD that reads one piece after the other, so that each answer is timed by itself:
 * https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */
export class NbdReader implements Disposable {
  readonly sizeBytes: number;
  readonly #socket: Socket;
  readonly #bytes: AsyncIterator<Buffer>;
  #left: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket, bytes: AsyncIterator<Buffer>, sizeBytes: number) {
    this.#socket = socket;
    this.#bytes = bytes;
    this.sizeBytes = sizeBytes;
  }

  /** Connects as soon as there is a server. Throws BENCH_TIMEOUT. */
  static async open(socketPath: string, timeoutMs: number): Promise<NbdReader> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const socket = connect(socketPath);
      try {
        await once(socket, "connect");
        return await NbdReader.#negotiate(socket);
      } catch (cause) {
        socket.destroy();
        if (performance.now() > end)
          throw new OsrError(BENCH_ERRORS.BENCH_TIMEOUT, `${socketPath} does not answer`, {
            cause,
          });
        await wait(CONNECT_POLL_MS);
      }
    }
  }

  static async #negotiate(socket: Socket): Promise<NbdReader> {
    const bytes = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    const start = new NbdReader(socket, bytes, 0);
    const hello = await start.#take(HELLO_BYTES);
    if (hello.toString("latin1", 0, 16) !== "NBDMAGICIHAVEOPT")
      throw new OsrError(BENCH_ERRORS.BENCH_WRONG, "that is no NBD server");
    const option = Buffer.alloc(20);
    // Flags: fixed newstyle, no zeroes. Option 1: the export whose name follows, here the one without a name.
    option.writeUInt32BE(3, 0);
    option.write("IHAVEOPT", 4, "latin1");
    option.writeUInt32BE(1, 12);
    socket.write(option);
    const size = Number((await start.#take(EXPORT_BYTES)).readBigUInt64BE());
    const reader = new NbdReader(socket, bytes, size);
    reader.#left = start.#left;
    return reader;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const request = Buffer.alloc(28);
    request.writeUInt32BE(REQUEST_MAGIC, 0);
    request.writeBigUInt64BE(BigInt(offset), 16);
    request.writeUInt32BE(length, 24);
    this.#socket.write(request);
    const reply = await this.#take(REPLY_BYTES);
    if (reply.readUInt32BE(0) !== REPLY_MAGIC || reply.readUInt32BE(4) !== 0)
      throw new OsrError(BENCH_ERRORS.BENCH_WRONG, `a read failed: ${reply.toString("hex")}`);
    return this.#take(length);
  }

  async #take(count: number): Promise<Buffer> {
    while (this.#left.length < count) {
      const chunk = await this.#bytes.next();
      if (chunk.done === true)
        throw new OsrError(BENCH_ERRORS.BENCH_WRONG, "the NBD server hung up");
      this.#left = Buffer.concat([this.#left, must(chunk.value, "bytes")]);
    }
    const taken = this.#left.subarray(0, count);
    this.#left = this.#left.subarray(count);
    return taken;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
