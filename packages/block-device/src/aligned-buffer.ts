import { assert } from "@osr/base/assert";

// The types of Node do not have it, and those of browsers would bring all else of a browser.
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number; maximum: number }) => {
    readonly buffer: ArrayBuffer;
  };
};

const WASM_PAGE_BYTES = 64 * 1024;
const BUFFER_BYTES_MAX = 1024 ** 3;

/** What O_DIRECT demands of memory, offsets and lengths, at most. */
export const ALIGNMENT_BYTES = 4096;

/**
 * Page-aligned memory, all zeros: O_DIRECT refuses ordinary Buffers (they start 16 bytes off), but memory of WebAssembly
 * starts at a page. Each call reserves much address space, so make few large ones and cut them with `subarray`.
 */
export function alignedBuffer(bytes: number): Buffer {
  assert(bytes > 0 && bytes <= BUFFER_BYTES_MAX, `cannot align ${bytes} bytes`);
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  return Buffer.from(memory.buffer, 0, bytes);
}

/** A fixed number of page-aligned buffers of one size, cut from one piece of memory and used again and again. */
export class AlignedBufferPool {
  readonly bufferBytes: number;
  readonly #free: Buffer[] = [];
  readonly #taken = new Set<Buffer>();

  constructor(options: { readonly bufferBytes: number; readonly count: number }) {
    const { bufferBytes, count } = options;
    assert(bufferBytes % ALIGNMENT_BYTES === 0, "pooled buffers are multiples of 4096 bytes");
    this.bufferBytes = bufferBytes;
    const memory = alignedBuffer(bufferBytes * count);
    for (let index = count - 1; index >= 0; index--)
      this.#free.push(memory.subarray(index * bufferBytes, (index + 1) * bufferBytes));
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** A buffer with whatever its last user left in it, or undefined where all are taken. */
  take(): Buffer | undefined {
    const buffer = this.#free.pop();
    if (buffer !== undefined) this.#taken.add(buffer);
    return buffer;
  }

  give(buffer: Buffer): void {
    assert(this.#taken.delete(buffer), "the buffer was not taken from this pool");
    this.#free.push(buffer);
  }
}
