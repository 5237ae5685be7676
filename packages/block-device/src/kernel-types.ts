import fs from "node:fs";

import { OsrError, messageOf } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";

const FILE = "/sys/kernel/btf/vmlinux";
const MAGIC = 0xeb9f;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;

const KIND_STRUCT = 4;
export const KIND_TYPEDEF = 8;
/** What follows a type, by its kind: bytes, and bytes for each of its members. */
const BYTES_AFTER: readonly { readonly head: number; readonly member: number }[] = [
  ...[0, 4, 0, 12].map((head) => ({ head, member: 0 })),
  { head: 0, member: MEMBER_BYTES },
  { head: 0, member: MEMBER_BYTES },
  { head: 0, member: 8 },
  ...[0, 0, 0, 0, 0, 0].map((head) => ({ head, member: 0 })),
  { head: 0, member: 8 },
  { head: 4, member: 0 },
  { head: 0, member: 12 },
  ...[0, 4, 0].map((head) => ({ head, member: 0 })),
  { head: 0, member: 12 },
];

type KernelType = {
  readonly id: number;
  readonly memberCount: number;
  readonly membersAt: number;
};

/**
 * What the running kernel says of its own types, in the BPF type format (kernel documentation, bpf/btf.rst). Only what change
 * tracking asks for is looked up; nothing is kept but the bytes.
 */
export class KernelTypes {
  readonly #bytes: Buffer;
  /** Of the same bytes. Buffer's own readUInt32LE makes garbage until it is compiled: 15 MB for what is asked at a start. */
  readonly #view: DataView;
  readonly #typesAt: number;
  readonly #typesEnd: number;
  readonly #namesAt: number;

  /** Throws KERNEL_TYPES_UNKNOWN. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) throw unknown("no type format");
    const headBytes = bytes.readUInt32LE(4);
    this.#typesAt = headBytes + bytes.readUInt32LE(8);
    this.#typesEnd = this.#typesAt + bytes.readUInt32LE(12);
    this.#namesAt = headBytes + bytes.readUInt32LE(16);
    if (Math.max(this.#typesEnd, this.#namesAt) > bytes.length) throw unknown("it is cut short");
  }

  /** Those of this machine's kernel. Throws KERNEL_TYPES_UNKNOWN. */
  static ofThisKernel(): KernelTypes {
    try {
      return new KernelTypes(fs.readFileSync(FILE));
    } catch (cause) {
      if (cause instanceof OsrError) throw cause;
      throw unknown(messageOf(cause));
    }
  }

  /** The number of a type. Throws KERNEL_TYPES_UNKNOWN where the kernel has none of that kind and name. */
  idOf(kind: number, name: string): number {
    let found: number | undefined;
    this.#visit(kind, name, ({ id }) => {
      found ??= id;
    });
    if (found === undefined) throw unknown(`there is no ${name}`);
    return found;
  }

  /**
   * Bytes from the start of a struct to some of its members. Throws KERNEL_TYPES_UNKNOWN where no struct of that name has
   * all of them.
   */
  offsetsOf<M extends string>(struct: string, members: readonly M[]): Readonly<Record<M, number>> {
    let found: Record<M, number> | undefined;
    this.#visit(KIND_STRUCT, struct, (type) => {
      const offsets = members.map((member) => [member, this.#offsetOf(type, member)] as const);
      if (offsets.every(([, offset]) => offset !== undefined))
        found ??= Object.fromEntries(offsets) as Record<M, number>;
    });
    if (found === undefined) throw unknown(`no struct ${struct} has ${members.join(", ")}`);
    return found;
  }

  /** Every type of that kind and name, in their order. */
  #visit(kind: number, name: string, visitor: (type: KernelType) => void): void {
    const nameOffset = this.#nameOffset(name);
    let id = 1;
    for (let at = this.#typesAt; at + TYPE_BYTES <= this.#typesEnd; id++) {
      const info = this.#wordAt(at + 4);
      const kindHere = (info >>> 24) & 0x1f;
      const memberCount = info & 0xffff;
      const after = BYTES_AFTER[kindHere];
      if (after === undefined) throw unknown(`a type of the unknown kind ${kindHere}`);
      const membersAt = at + TYPE_BYTES;
      const next = membersAt + after.head + after.member * memberCount;
      if (next > this.#typesEnd) throw unknown("a type is cut short");
      if (kindHere === kind && this.#wordAt(at) === nameOffset)
        visitor({ id, memberCount, membersAt });
      at = next;
    }
  }

  #wordAt(at: number): number {
    return this.#view.getUint32(at, true);
  }

  /** Undefined where it has no such member, or one that begins within a byte. */
  #offsetOf({ memberCount, membersAt }: KernelType, member: string): number | undefined {
    const nameOffset = this.#nameOffset(member);
    for (let at = membersAt; at < membersAt + memberCount * MEMBER_BYTES; at += MEMBER_BYTES) {
      if (this.#wordAt(at) !== nameOffset) continue;
      // The highest byte is the size of a bit field.
      const bits = this.#wordAt(at + 8) & 0xffffff;
      return bits % 8 === 0 ? bits / 8 : undefined;
    }
    return undefined;
  }

  /** Each name is in the kernel's table once, and the first one is empty. Undefined where it is not in it. */
  #nameOffset(name: string): number | undefined {
    const at = this.#bytes.indexOf(`\0${name}\0`, this.#namesAt, "latin1");
    return at === -1 ? undefined : at + 1 - this.#namesAt;
  }
}

function unknown(reason: string): OsrError {
  return new OsrError(
    BLOCK_DEVICE_ERRORS.KERNEL_TYPES_UNKNOWN,
    `the kernel's types cannot be read from ${FILE}: ${reason}`,
  );
}
