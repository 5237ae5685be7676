import { MIB } from "./units.ts";

const ZEROS = new Uint8Array(MIB);

/** True where every byte of `bytes` is zero. Compares with memcmp; allocates at most a view. */
export function isZero(bytes: Uint8Array): boolean {
  for (let offset = 0; offset < bytes.byteLength; offset += ZEROS.byteLength) {
    const piece =
      offset === 0 && bytes.byteLength <= MIB ? bytes : bytes.subarray(offset, offset + MIB);
    const zeros = piece.byteLength === MIB ? ZEROS : ZEROS.subarray(0, piece.byteLength);
    if (Buffer.compare(piece, zeros) !== 0) return false;
  }
  return true;
}
