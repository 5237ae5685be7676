const U32 = 2 ** 32;

/** Writes a whole number below 2^53 in 8 bytes, little-endian. */
export function writeU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % U32, offset);
  target.writeUInt32LE(Math.floor(value / U32), offset + 4);
}

/** Reads 8 bytes, little-endian. Values of 2^53 and more are not exact: the caller checks with isSafeInteger. */
export function readU64(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset) + source.readUInt32LE(offset + 4) * U32;
}
