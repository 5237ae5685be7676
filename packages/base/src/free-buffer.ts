/**
 * Frees the memory of a buffer that nobody uses any more, ahead of the garbage collector: V8 takes the bytes outside its heap
 * for pressure and collects in full for every few MiB of them. Leaves parts of larger memory alone, such as Node's pool.
 */
export function freeBuffer(buffer: Uint8Array): void {
  const memory = buffer.buffer;
  if (memory instanceof ArrayBuffer && memory.byteLength === buffer.byteLength) memory.transfer(0);
}
