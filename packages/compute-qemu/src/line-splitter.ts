const NEWLINE = 0x0a;

/** Cuts a stream of bytes into lines of at most `lineBytesMax`. Bytes are copied once, when their line is complete. */
export class LineSplitter {
  readonly #lineBytesMax: number;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** The lines that `chunk` completes, without their ends; undefined where a line is too long. */
  push(chunk: Buffer): readonly Buffer[] | undefined {
    const lines: Buffer[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      const piece = chunk.subarray(start, end < 0 ? chunk.byteLength : end);
      this.#pieceBytes += piece.byteLength;
      if (this.#pieceBytes > this.#lineBytesMax) return undefined;
      if (piece.byteLength > 0) this.#pieces.push(piece);
      if (end < 0) return lines;
      lines.push(Buffer.concat(this.#pieces, this.#pieceBytes));
      this.#pieces = [];
      this.#pieceBytes = 0;
      start = end + 1;
    }
  }
}
