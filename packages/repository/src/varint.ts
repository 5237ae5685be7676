/** A number below 2^53 takes at most this many bytes. */
const WRITE_BYTES_MAX = 8;
/** Numbers of 35 bits, more than any field has. */
const READ_BYTES_MAX = 5;

/** Unsigned LEB128 numbers below 2^53, one after the other. Grows as it needs. */
export class VarintWriter {
  #bytes = Buffer.allocUnsafe(4096);
  #length = 0;

  write(value: number): void {
    if (this.#length + WRITE_BYTES_MAX > this.#bytes.length) this.#grow();
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest % 0x80) + 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#length++] = rest;
  }

  /** Writes a number that may be negative: 0, -1, 1, -2, … become 0, 1, 2, 3, … */
  writeSigned(value: number): void {
    this.write(value < 0 ? -2 * value - 1 : 2 * value);
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(): void {
    const larger = Buffer.allocUnsafe(this.#bytes.length * 2);
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** Reads what VarintWriter wrote. `fail` throws: it is called for numbers that are cut or too long. */
export class VarintReader {
  readonly #bytes: Buffer;
  readonly #fail: (message: string) => never;
  #at = 0;

  constructor(bytes: Buffer, fail: (message: string) => never) {
    this.#bytes = bytes;
    this.#fail = fail;
  }

  read(): number {
    let value = 0;
    let unit = 1;
    for (let i = 0; i < READ_BYTES_MAX; i++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) return this.#fail("a number is cut");
      value += (byte % 0x80) * unit;
      if (byte < 0x80) return value;
      unit *= 0x80;
    }
    return this.#fail("a number is too long");
  }

  readSigned(): number {
    const value = this.read();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }
}
