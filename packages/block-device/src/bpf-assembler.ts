import { assert, must } from "@osr/base/assert";

/** Registers: r0 has results, r1 to r5 are lost by calls, r6 to r9 are kept, r10 is the end of the stack. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

const INSTRUCTION_BYTES = 8;
const SIZE_BITS = { 4: 0x00, 8: 0x18 } as const;
const OPERATIONS = {
  add: 0x00,
  multiply: 0x20,
  or: 0x40,
  and: 0x50,
  shiftLeft: 0x60,
  shiftRight: 0x70,
  exclusiveOr: 0xa0,
  move: 0xb0,
} as const;
const CONDITIONS = { equal: 0x10, above: 0x20, notBelow: 0x30 } as const;

export type Operation = keyof typeof OPERATIONS;
export type Condition = keyof typeof CONDITIONS;

type Instruction = {
  op: number;
  target: number;
  source: number;
  offset: number;
  immediate: number;
};

/**
 * Writes programs for the kernel's virtual machine (kernel documentation, bpf/standardization/instruction-set.rst), in the
 * order of its calls. All arithmetic is of 64 bits without sign.
 */
export class BpfAssembler {
  readonly #code: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { readonly at: number; readonly label: string }[] = [];

  /** target = target operation value, a register's or a number of 32 bits with sign. */
  compute(target: Register, operation: Operation, value: { r: Register } | number): void {
    const op = 0x07 | OPERATIONS[operation];
    if (typeof value === "number") this.#add(op, target, 0, 0, value);
    else this.#add(op | 0x08, target, value.r, 0, 0);
  }

  /** target = the value at an address, of 4 or 8 bytes. */
  load(bytes: 4 | 8, target: Register, base: Register, offset: number): void {
    this.#add(0x61 | SIZE_BITS[bytes], target, base, offset, 0);
  }

  store(bytes: 4 | 8, base: Register, offset: number, source: Register): void {
    this.#add(0x63 | SIZE_BITS[bytes], base, source, offset, 0);
  }

  /** Sets bits of 8 bytes at an address at once, for all CPUs. */
  atomicOr(base: Register, offset: number, source: Register): void {
    this.#add(0xdb, base, source, offset, OPERATIONS.or);
  }

  loadMap(target: Register, mapFd: number): void {
    this.#add(0x18, target, 1, 0, mapFd);
    this.#add(0, 0, 0, 0, 0);
  }

  /** Calls a helper of the kernel by its number. */
  call(helper: number): void {
    this.#add(0x85, 0, 0, 0, helper);
  }

  jump(label: string): void {
    this.#jumpTo(label, 0x05, 0, 0, 0);
  }

  jumpIf(
    left: Register,
    condition: Condition,
    right: { r: Register } | number,
    label: string,
  ): void {
    const op = 0x05 | CONDITIONS[condition];
    if (typeof right === "number") this.#jumpTo(label, op, left, 0, right);
    else this.#jumpTo(label, op | 0x08, left, right.r, 0);
  }

  label(name: string): void {
    assert(!this.#labels.has(name), "a label is somewhere once");
    this.#labels.set(name, this.#code.length);
  }

  /** Ends the program with the value of r0. */
  exit(): void {
    this.#add(0x95, 0, 0, 0, 0);
  }

  /** The program. */
  assemble(): Buffer {
    for (const { at, label } of this.#jumps)
      must(this.#code[at], "a jump").offset = must(this.#labels.get(label), label) - at - 1;
    const bytes = Buffer.alloc(this.#code.length * INSTRUCTION_BYTES);
    for (const [index, { op, target, source, offset, immediate }] of this.#code.entries()) {
      const at = index * INSTRUCTION_BYTES;
      bytes.writeUInt8(op, at);
      bytes.writeUInt8(target | (source << 4), at + 1);
      bytes.writeInt16LE(offset, at + 2);
      bytes.writeInt32LE(immediate, at + 4);
    }
    return bytes;
  }

  #jumpTo(label: string, op: number, target: number, source: number, immediate: number): void {
    this.#jumps.push({ at: this.#code.length, label });
    this.#add(op, target, source, 0, immediate);
  }

  #add(op: number, target: number, source: number, offset: number, immediate: number): void {
    this.#code.push({ op, target, source, offset, immediate });
  }
}
