import { once } from "node:events";
import type { Duplex } from "node:stream";

import { SocketReader } from "./socket-reader.ts";

/** A client that says exactly what a test wants to be said, and reads what comes back. */
export class RawNbdClient {
  readonly stream: Duplex;
  readonly #reader: SocketReader;

  constructor(stream: Duplex) {
    this.stream = stream;
    this.#reader = new SocketReader(stream);
    stream.on("error", () => undefined);
  }

  async read(bytes: number): Promise<Buffer> {
    return await this.#reader.read(bytes);
  }

  /** Gives the stream away, as for TLS. */
  detach(): Buffer {
    return this.#reader.detach();
  }

  /** Reads the greeting and sends the client's flags. */
  async greet(flags = 3): Promise<Buffer> {
    const greeting = await this.read(18);
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(flags);
    this.stream.write(bytes);
    return greeting;
  }

  sendOption(option: number, data: Buffer = Buffer.alloc(0)): void {
    const header = Buffer.alloc(16);
    header.write("IHAVEOPT");
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.stream.write(Buffer.concat([header, data]));
  }

  async readOptionReply(): Promise<{ option: number; type: number; data: Buffer }> {
    const header = await this.read(20);
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** Sends an option and reads replies up to its ACK or error. */
  async option(option: number, data?: Buffer): Promise<{ type: number; data: Buffer }[]> {
    this.sendOption(option, data);
    const replies: { type: number; data: Buffer }[] = [];
    for (;;) {
      const reply = await this.readOptionReply();
      replies.push(reply);
      if (reply.type === 1 || reply.type >= 0x8000_0000) return replies;
    }
  }

  sendRequest(request: {
    command: number;
    offset?: bigint;
    bytes?: number;
    flags?: number;
    cookie?: bigint;
  }): void {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(request.flags ?? 0, 4);
    header.writeUInt16BE(request.command, 6);
    header.writeBigUInt64BE(request.cookie ?? 1n, 8);
    header.writeBigUInt64BE(request.offset ?? 0n, 16);
    header.writeUInt32BE(request.bytes ?? 0, 24);
    this.stream.write(header);
  }

  async readSimple(): Promise<{ error: number; cookie: bigint }> {
    const header = await this.read(16);
    if (header.readUInt32BE(0) !== 0x67446698) throw new Error("no simple reply");
    return { error: header.readUInt32BE(4), cookie: header.readBigUInt64BE(8) };
  }

  async readChunk(): Promise<{ done: boolean; type: number; cookie: bigint; data: Buffer }> {
    const header = await this.read(20);
    if (header.readUInt32BE(0) !== 0x668e33ef) throw new Error("no chunk");
    return {
      done: (header.readUInt16BE(4) & 1) === 1,
      type: header.readUInt16BE(6),
      cookie: header.readBigUInt64BE(8),
      data: await this.read(header.readUInt32BE(16)),
    };
  }

  /** Resolves when the server has closed the connection. */
  async closed(): Promise<void> {
    this.stream.resume();
    if (!this.stream.closed) await once(this.stream, "close");
  }
}

/** Data of GO and INFO, without information requests. */
export function goData(name: string, infos: readonly number[] = []): Buffer {
  const text = Buffer.from(name);
  const data = Buffer.alloc(4 + text.length + 2 + 2 * infos.length);
  data.writeUInt32BE(text.length, 0);
  text.copy(data, 4);
  data.writeUInt16BE(infos.length, 4 + text.length);
  for (const [i, info] of infos.entries()) data.writeUInt16BE(info, 6 + text.length + 2 * i);
  return data;
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaContextData(name: string, queries: readonly string[]): Buffer {
  const parts = [Buffer.alloc(4), Buffer.from(name), Buffer.alloc(4)];
  parts[0]?.writeUInt32BE(Buffer.byteLength(name));
  parts[2]?.writeUInt32BE(queries.length);
  for (const query of queries) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.byteLength(query));
    parts.push(length, Buffer.from(query));
  }
  return Buffer.concat(parts);
}
