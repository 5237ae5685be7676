import type { Duplex } from "node:stream";

import type { Extent } from "@osr/base/block-source";
import { OsrError } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { KIB, MIB } from "@osr/base/units";

import { appendExtents, coarseRuns } from "./extent-runs.ts";
import type { NbdLimits } from "./nbd-limits.ts";
import { COMMANDS, COMMAND_FLAGS, REQUEST_BYTES_MAX, WIRE_ERRORS } from "./nbd-protocol.ts";
import type { Agreement } from "./negotiation.ts";
import { HEADER_ROOM_BYTES, PIECE_BYTES_MAX, type ReplyBuffers } from "./reply-buffers.ts";
import {
  DATA_CHUNK_HEADER_BYTES,
  REQUEST_HEADER_BYTES,
  type Request,
  SIMPLE_REPLY_BYTES,
  decodeRequest,
  encodeBlockStatusChunk,
  encodeErrorChunk,
  encodeHoleChunk,
  encodeNoneChunk,
  writeDataChunkHeader,
  writeSimpleReply,
} from "./transmission-codec.ts";

/** Zeros shorter than this are sent as data: a chunk of their own would cost more than it saves. */
const HOLE_BYTES_MIN = 32 * KIB;
/** Extents in one answer; clients ask again for the rest. */
const EXTENTS_MAX = 4096;
/** Range of which extents are looked up at once: at most 16384 of 4 KiB. */
const STATUS_STEP_BYTES = 64 * MIB;
const NOTHING = Buffer.alloc(0);

export type TransmissionPorts = {
  readonly buffers: ReplyBuffers;
  readonly limits: NbdLimits;
  readonly log: Log;
  readonly scheduler: Scheduler;
  /** Cancels the reads that are under way: the client has gone or the server stops. */
  readonly signal: AbortSignal;
};

/** The source could not be read; `cause` says why. */
class ReadFailure extends Error {
  override readonly name = "ReadFailure";
}

/**
 * The transmission phase of one connection. Requests are answered concurrently and in any order; a request counts as in
 * flight until its answer has left the process, so that a client that does not read its answers is not served further.
 */
export class Transmission {
  readonly #socket: Duplex;
  readonly #agreement: Agreement;
  readonly #ports: TransmissionPorts;
  #received: Buffer = NOTHING;
  /** Payload of a refused write that is still to come. */
  #skipBytes = 0;
  #inFlight = 0;
  #heldBytes = 0;
  #ended = false;
  #paused = false;
  #stallTimer: Disposable | undefined;
  /** Settles when a simple reply in several pieces has been sent: nothing may come between its pieces. */
  #exclusive: Promise<void> | undefined;
  readonly #idle = Promise.withResolvers<undefined>();

  constructor(socket: Duplex, agreement: Agreement, ports: TransmissionPorts) {
    this.#socket = socket;
    this.#agreement = agreement;
    this.#ports = ports;
  }

  /**
   * Serves the client until it disconnects. `received` is what came behind the negotiation. When it resolves, no
   * read of the source is under way any more.
   */
  async run(received: Buffer): Promise<void> {
    const socket = this.#socket;
    const closed = new Promise<void>((resolve) => {
      socket.once("close", () => {
        resolve();
      });
    });
    socket.on("data", (chunk: Buffer) => {
      this.#take(chunk);
    });
    socket.on("drain", () => {
      this.#stallTimer?.[Symbol.dispose]();
      this.#stallTimer = undefined;
    });
    socket.once("end", () => {
      this.#end();
    });
    this.#take(received);
    // A client that says all at once has ended before anybody listened here.
    if (socket.readableEnded) this.#end();
    if (!socket.readableFlowing && !this.#paused) socket.resume();
    await closed;
    this.#ended = true;
    this.#stallTimer?.[Symbol.dispose]();
    if (this.#inFlight > 0) await this.#idle.promise;
  }

  #take(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    this.#pump();
  }

  /** Starts the requests that have arrived, as far as the limits allow. */
  #pump(): void {
    const received = this.#received;
    let at = 0;
    while (!this.#ended) {
      const skipped = Math.min(this.#skipBytes, received.length - at);
      this.#skipBytes -= skipped;
      at += skipped;
      if (received.length - at < REQUEST_HEADER_BYTES || this.#isFull()) break;
      const request = decodeRequest(received, at);
      if (request === undefined) {
        this.#ports.log.warn("an NBD client sent what is no request; its connection is closed");
        this.#drop();
        break;
      }
      at += REQUEST_HEADER_BYTES;
      this.#accept(request);
    }
    this.#received = at === received.length ? NOTHING : received.subarray(at);
    if (!this.#ended) this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    const full = this.#isFull();
    if (full === this.#paused) return;
    this.#paused = full;
    if (full) this.#socket.pause();
    else this.#socket.resume();
  }

  #isFull(): boolean {
    const { requestsInFlightMax, connectionBytesMax } = this.#ports.limits;
    return this.#inFlight >= requestsInFlightMax || this.#heldBytes >= connectionBytesMax;
  }

  #accept(request: Request): void {
    if (request.command === COMMANDS.DISCONNECT) {
      this.#end();
      return;
    }
    if (request.command === COMMANDS.WRITE) {
      if (request.bytes > REQUEST_BYTES_MAX) {
        this.#drop();
        return;
      }
      this.#skipBytes = request.bytes;
    }
    const heldBytes =
      request.command === COMMANDS.READ ? Math.min(request.bytes, PIECE_BYTES_MAX) : 0;
    this.#inFlight += 1;
    this.#heldBytes += heldBytes;
    void this.#serve(request).finally(() => {
      this.#inFlight -= 1;
      this.#heldBytes -= heldBytes;
      if (!this.#ended) this.#pump();
      else if (this.#inFlight === 0) this.#finish();
    });
  }

  /** No more requests: what was asked before is still answered. */
  #end(): void {
    this.#ended = true;
    if (this.#inFlight === 0) this.#finish();
  }

  #finish(): void {
    this.#idle.resolve(undefined);
    this.#socket.end(() => this.#socket.destroy());
  }

  #drop(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  /** Answers one request. Never rejects: a socket that fails closes the connection by itself. */
  async #serve(request: Request): Promise<void> {
    try {
      await this.#answer(request);
    } catch (error) {
      if (!(error instanceof ReadFailure)) return;
      await this.#answerFailure(request, error.cause).catch(() => undefined);
    }
  }

  async #answer(request: Request): Promise<void> {
    const { source, structuredReplies, allocation } = this.#agreement;
    switch (request.command) {
      case COMMANDS.READ:
        if (request.offset + request.bytes > source.sizeBytes || request.bytes > REQUEST_BYTES_MAX)
          return await this.#answerError(request, WIRE_ERRORS.EINVAL);
        return structuredReplies ? await this.#read(request) : await this.#readSimple(request);
      case COMMANDS.BLOCK_STATUS:
        if (!allocation || request.bytes === 0 || request.offset + request.bytes > source.sizeBytes)
          return await this.#answerError(request, WIRE_ERRORS.EINVAL);
        return await this.#blockStatus(request);
      case COMMANDS.FLUSH:
        return await this.#answerError(request, 0);
      case COMMANDS.WRITE:
      case COMMANDS.TRIM:
      case COMMANDS.WRITE_ZEROES:
        return await this.#answerError(request, WIRE_ERRORS.EPERM);
      default:
        return await this.#answerError(request, WIRE_ERRORS.EINVAL);
    }
  }

  async #read(request: Request): Promise<void> {
    const { source } = this.#agreement;
    const whole = (request.flags & COMMAND_FLAGS.DONT_FRAGMENT) !== 0;
    if (request.bytes === 0) return await this.#send(encodeNoneChunk(request));
    if (whole && request.bytes > PIECE_BYTES_MAX)
      return await this.#answerError(request, WIRE_ERRORS.EOVERFLOW);
    if (whole || request.bytes < HOLE_BYTES_MIN)
      return await this.#sendData(request, request, true);
    const runs = coarseRuns(
      await this.#guarded(source.extents(request.offset, request.bytes, this.#ports.signal)),
      HOLE_BYTES_MIN,
    );
    for (const [index, run] of runs.entries()) {
      const done = index === runs.length - 1;
      if (!run.zero) await this.#sendData(request, run, done);
      else
        await this.#send(encodeHoleChunk(request, { offset: run.offset, bytes: run.bytes, done }));
    }
  }

  /** Sends a range in chunks of at most one piece, one after the other. */
  async #sendData(
    request: Request,
    range: { readonly offset: number; readonly bytes: number },
    done: boolean,
  ): Promise<void> {
    const buffer = await this.#buffer(range.bytes);
    let isMine = false;
    try {
      for (let sent = 0; sent < range.bytes; sent += PIECE_BYTES_MAX) {
        const bytes = Math.min(PIECE_BYTES_MAX, range.bytes - sent);
        const end = HEADER_ROOM_BYTES + bytes;
        const offset = range.offset + sent;
        isMine = false;
        await this.#fill(offset, buffer.subarray(HEADER_ROOM_BYTES, end));
        isMine = true;
        const start = HEADER_ROOM_BYTES - DATA_CHUNK_HEADER_BYTES;
        const isLast = done && sent + bytes === range.bytes;
        writeDataChunkHeader(buffer, start, request, { offset, bytes, done: isLast });
        await this.#send(buffer.subarray(start, end));
      }
    } finally {
      this.#release(buffer, isMine);
    }
  }

  /**
   * A simple reply knows one error field, before the data. Once it has said success, a failed read can only be told by
   * hanging up, as the specification demands.
   */
  async #readSimple(request: Request): Promise<void> {
    const buffer = await this.#buffer(request.bytes);
    const exclusive = request.bytes > PIECE_BYTES_MAX ? Promise.withResolvers<void>() : undefined;
    let isMine = request.bytes === 0;
    let sent = 0;
    try {
      do {
        const bytes = Math.min(PIECE_BYTES_MAX, request.bytes - sent);
        const end = HEADER_ROOM_BYTES + bytes;
        isMine = false;
        await this.#fill(request.offset + sent, buffer.subarray(HEADER_ROOM_BYTES, end));
        isMine = true;
        const start = sent === 0 ? HEADER_ROOM_BYTES - SIMPLE_REPLY_BYTES : HEADER_ROOM_BYTES;
        if (sent === 0) {
          writeSimpleReply(buffer, start, request, 0);
          while (this.#exclusive !== undefined) await this.#exclusive;
          this.#exclusive = exclusive?.promise;
        }
        await this.#write(buffer.subarray(start, end));
        sent += bytes;
      } while (sent < request.bytes);
    } catch (error) {
      if (sent > 0) this.#drop();
      throw error;
    } finally {
      if (exclusive !== undefined && this.#exclusive === exclusive.promise)
        this.#exclusive = undefined;
      exclusive?.resolve();
      this.#release(buffer, isMine);
    }
  }

  /** As many extents as fit one answer; the protocol lets a server answer for less than was asked. */
  async #blockStatus(request: Request): Promise<void> {
    const { source } = this.#agreement;
    const oneOnly = (request.flags & COMMAND_FLAGS.ONE_EXTENT) !== 0;
    const runs: Extent[] = [];
    for (let done = 0; done < request.bytes; done += STATUS_STEP_BYTES) {
      const bytes = Math.min(STATUS_STEP_BYTES, request.bytes - done);
      const offset = request.offset + done;
      appendExtents(runs, await this.#guarded(source.extents(offset, bytes, this.#ports.signal)));
      if (runs.length > (oneOnly ? 1 : EXTENTS_MAX)) break;
    }
    await this.#send(encodeBlockStatusChunk(request, runs.slice(0, oneOnly ? 1 : EXTENTS_MAX)));
  }

  async #buffer(bytes: number): Promise<Buffer> {
    const size = Math.min(bytes, PIECE_BYTES_MAX);
    const { buffers, signal } = this.#ports;
    return buffers.tryTake(size) ?? (await buffers.take(size, signal));
  }

  /** Where the read of a buffer failed, a cancelled source may still write to it. */
  #release(buffer: Buffer, isMine: boolean): void {
    if (isMine) this.#ports.buffers.give(buffer);
    else this.#ports.buffers.discard(buffer);
  }

  async #fill(offset: number, target: Buffer): Promise<void> {
    if (target.length > 0)
      await this.#guarded(this.#agreement.source.read(offset, target, this.#ports.signal));
  }

  async #guarded<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (cause) {
      throw new ReadFailure("the source could not be read", { cause });
    }
  }

  async #answerFailure(request: Request, cause: unknown): Promise<void> {
    const { signal, log } = this.#ports;
    if (signal.aborted) return await this.#answerError(request, WIRE_ERRORS.ESHUTDOWN);
    log.error("a read of an NBD export failed; the client is told so", {
      exportName: this.#agreement.exportName,
      offset: request.offset,
      bytes: request.bytes,
      error: cause,
    });
    return await this.#answerError(request, WIRE_ERRORS.EIO, cause);
  }

  /** Answers without data; `error` 0 is success. */
  async #answerError(request: Request, error: number, cause?: unknown): Promise<void> {
    const wantsChunk =
      request.command === COMMANDS.READ || request.command === COMMANDS.BLOCK_STATUS;
    if (this.#agreement.structuredReplies && wantsChunk) {
      const message = cause instanceof OsrError ? cause.code : "";
      return await this.#send(encodeErrorChunk(request, error, message));
    }
    const reply = Buffer.allocUnsafe(SIMPLE_REPLY_BYTES);
    writeSimpleReply(reply, 0, request, error);
    return await this.#send(reply);
  }

  async #send(bytes: Buffer): Promise<void> {
    while (this.#exclusive !== undefined) await this.#exclusive;
    await this.#write(bytes);
  }

  /** Resolves when the bytes have left the process, so that their buffer may be used again. */
  #write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const room = this.#socket.write(bytes, (error) => {
        if (error === null || error === undefined) resolve();
        else reject(error);
      });
      if (!room) this.#watchStall();
    });
  }

  #watchStall(): void {
    const { scheduler, limits, log } = this.#ports;
    this.#stallTimer ??= scheduler.after(limits.stallTimeoutMs, () => {
      log.warn("an NBD client does not take its answers; its connection is closed", {
        exportName: this.#agreement.exportName,
      });
      this.#drop();
    });
  }
}
