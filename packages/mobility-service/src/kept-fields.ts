import { assert } from "@osr/base/assert";

/** Lays fields out in memory, one after the other; the same calls give the same places. */
export class KeptFields {
  readonly #buffer: ArrayBuffer;
  #offset: number;

  constructor(buffer: ArrayBuffer, offset: number) {
    assert(offset % 8 === 0, "fields are aligned");
    this.#buffer = buffer;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  words(count: number): Uint32Array {
    return new Uint32Array(this.#buffer, this.#take(count * 4), count);
  }

  text(bytesMax: number): KeptText {
    const length = this.words(1);
    return new KeptText(length, new Uint8Array(this.#buffer, this.#take(bytesMax), bytesMax));
  }

  numbers(count: number): KeptNumbers {
    const which = this.words(1);
    const copies = [0, 1].map(
      () => new Float64Array(this.#buffer, this.#take(count * 8), count),
    ) as [Float64Array, Float64Array];
    return new KeptNumbers(which, copies);
  }

  #take(bytes: number): number {
    const offset = this.#offset;
    this.#offset += Math.ceil(bytes / 8) * 8;
    return offset;
  }
}

/** A text that is written once: its length comes last. */
export class KeptText {
  readonly #length: Uint32Array;
  readonly #bytes: Uint8Array;

  constructor(length: Uint32Array, bytes: Uint8Array) {
    this.#length = length;
    this.#bytes = bytes;
  }

  get value(): string {
    return Buffer.from(this.#bytes.subarray(0, this.#length[0])).toString("utf8");
  }

  set value(text: string) {
    const bytes = Buffer.from(text, "utf8").subarray(0, this.#bytes.length);
    this.#length[0] = 0;
    this.#bytes.set(bytes);
    this.#length[0] = bytes.length;
  }
}

/**
 * Numbers that belong together: two copies, and a word that says which one counts. Whoever is ended in the middle of a
 * change leaves the numbers from before it.
 */
export class KeptNumbers {
  readonly #which: Uint32Array;
  readonly #copies: readonly [Float64Array, Float64Array];

  constructor(which: Uint32Array, copies: readonly [Float64Array, Float64Array]) {
    this.#which = which;
    this.#copies = copies;
  }

  /** What counts now. */
  get current(): Float64Array {
    return this.#copies[this.#which[0] === 1 ? 1 : 0];
  }

  /** To be filled, then made to count by `commit`. */
  get next(): Float64Array {
    return this.#copies[this.#which[0] === 1 ? 0 : 1];
  }

  commit(): void {
    this.#which[0] = this.#which[0] === 1 ? 0 : 1;
  }
}
