/**
 * Memory that a successor of this process finds as it was left, however the process ended; a reboot empties it. What is
 * written is there at once and in the order of the writes.
 */
export interface KeptMemory {
  readonly buffer: ArrayBuffer;
  /** Makes sure that bytes can be written that are not in use, and fills them with zeros. False where there is no room. */
  reserve(offset: number, bytes: number): boolean;
}

/** Memory of this process alone, for where nothing outlives it. */
export function heapMemory(bytes: number): KeptMemory {
  const buffer = new ArrayBuffer(bytes);
  return {
    buffer,
    reserve: (offset, count) => {
      new Uint8Array(buffer, offset, count).fill(0);
      return true;
    },
  };
}
