import { freeBuffer } from "@osr/base/free-buffer";
import { MIB } from "@osr/base/units";

/** Most reads of an object are no longer. */
const SPARE_BYTES = MIB;

/** Memory for what is read of objects, used again and again. It keeps as much as was in use at once. */
export class ReadMemory {
  readonly #spare: Buffer[] = [];

  take(bytes: number): Buffer {
    if (bytes > SPARE_BYTES) return Buffer.allocUnsafeSlow(bytes);
    return (this.#spare.pop() ?? Buffer.allocUnsafeSlow(SPARE_BYTES)).subarray(0, bytes);
  }

  /** Nobody uses `memory`, which came from `take`, any more. After a read that failed somebody may: it is not given back. */
  giveBack(memory: Buffer): void {
    if (memory.buffer.byteLength === SPARE_BYTES) this.#spare.push(Buffer.from(memory.buffer));
    else freeBuffer(memory);
  }
}
