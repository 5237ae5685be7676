import { assert } from "@osr/base/assert";
import { KIB, MIB } from "@osr/base/units";

/** Room for reply headers before the data, so that a reply goes out in one write without a copy. */
export const HEADER_ROOM_BYTES = 32;
/** Longest data in one buffer; longer reads are answered in pieces. */
export const PIECE_BYTES_MAX = MIB;
const PIECE_BYTES_MIN = 4 * KIB;

type Waiter = {
  readonly bytes: number;
  readonly resolve: (buffer: Buffer) => void;
};

/**
 * Buffers for replies, shared by all connections of a server and reused: the bound on the memory of answers that are
 * being read or sent. Sizes are powers of two, plus the room for headers. Whoever waits is served in turn.
 */
export class ReplyBuffers {
  readonly #bytesMax: number;
  readonly #free = new Map<number, Buffer[]>();
  readonly #waiters: Waiter[] = [];
  #allocatedBytes = 0;

  constructor(bytesMax: number) {
    assert(bytesMax >= PIECE_BYTES_MAX + HEADER_ROOM_BYTES, "there is room for one piece");
    this.#bytesMax = bytesMax;
  }

  /** Bytes of all buffers, lent out or free. */
  get allocatedBytes(): number {
    return this.#allocatedBytes;
  }

  /** A buffer for `bytes` of data, or undefined where one has to wait for it. */
  tryTake(bytes: number): Buffer | undefined {
    return this.#waiters.length > 0 ? undefined : this.#takeNow(bytes);
  }

  /** Waits for a buffer; rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    const now = this.tryTake(bytes);
    if (now !== undefined) return now;
    return await new Promise((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        resolve: (buffer) => {
          signal.removeEventListener("abort", onAbort);
          resolve(buffer);
        },
      };
      const onAbort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        reject(signal.reason as Error);
        // The next one may have been waiting behind a longer request.
        this.#serveWaiters();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  /** Takes back a buffer that nobody writes to or reads from any more. */
  give(buffer: Buffer): void {
    const free = this.#free.get(buffer.length);
    if (free === undefined) this.#free.set(buffer.length, [buffer]);
    else free.push(buffer);
    this.#serveWaiters();
  }

  /** Forgets a buffer that a cancelled read may still write to. */
  discard(buffer: Buffer): void {
    this.#allocatedBytes -= buffer.length;
    this.#serveWaiters();
  }

  #serveWaiters(): void {
    for (;;) {
      const waiter = this.#waiters[0];
      const buffer = waiter === undefined ? undefined : this.#takeNow(waiter.bytes);
      if (waiter === undefined || buffer === undefined) return;
      this.#waiters.shift();
      waiter.resolve(buffer);
    }
  }

  #takeNow(bytes: number): Buffer | undefined {
    assert(bytes <= PIECE_BYTES_MAX, "a piece fits a buffer");
    let size = PIECE_BYTES_MIN;
    while (size < bytes) size *= 2;
    size += HEADER_ROOM_BYTES;
    const reused = this.#free.get(size)?.pop();
    if (reused !== undefined) return reused;
    if (this.#allocatedBytes + size > this.#bytesMax) this.#dropFree(size);
    if (this.#allocatedBytes + size > this.#bytesMax) return undefined;
    this.#allocatedBytes += size;
    return Buffer.allocUnsafeSlow(size);
  }

  /** Gives up free buffers of other sizes until there is room for `size`. */
  #dropFree(size: number): void {
    for (const free of this.#free.values()) {
      while (this.#allocatedBytes + size > this.#bytesMax) {
        const buffer = free.pop();
        if (buffer === undefined) break;
        this.#allocatedBytes -= buffer.length;
      }
    }
  }
}
