import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

import { KIND_TYPEDEF, KernelTypes } from "./kernel-types.ts";

const HEAD_BYTES = 24;
const KIND_INT = 1;
const KIND_STRUCT = 4;

/** Writes the kernel's format, type by type. */
class TypesWriter {
  readonly #names: Buffer[] = [Buffer.from("\0")];
  readonly #words: number[] = [];

  name(text: string): number {
    const offset = Buffer.concat(this.#names).length;
    this.#names.push(Buffer.from(`${text}\0`));
    return offset;
  }

  type(name: number, kind: number, memberCount: number, ...rest: readonly number[]): void {
    this.#words.push(name, kind * 2 ** 24 + memberCount, ...rest);
  }

  bytes(): Buffer {
    const types = Buffer.from(new Uint32Array(this.#words).buffer);
    const names = Buffer.concat(this.#names);
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt16LE(0xeb9f, 0);
    head.writeUInt8(1, 2);
    for (const [index, value] of [
      HEAD_BYTES,
      0,
      types.length,
      types.length,
      names.length,
    ].entries())
      head.writeUInt32LE(value, 4 + index * 4);
    return Buffer.concat([head, types, names]);
  }
}

function sample(): Buffer {
  const writer = new TypesWriter();
  const [int, request, sector, flags, hook] = ["int", "request", "sector", "flags", "hook"].map(
    (name) => writer.name(name),
  ) as [number, number, number, number, number];
  writer.type(int, KIND_INT, 0, 4, 0x20);
  // One of the same name that has not all members, as kernels do have them.
  writer.type(request, KIND_STRUCT, 1, 8, flags, 1, 0);
  writer.type(request, KIND_STRUCT, 3, 16, flags, 1, 32, sector, 1, 64, int, 1, 99);
  writer.type(hook, KIND_TYPEDEF, 0, 1);
  return writer.bytes();
}

test("finds members of a struct and the number of a type", () => {
  const types = new KernelTypes(sample());
  assert.deepEqual(types.offsetsOf("request", ["sector", "flags"]), { sector: 8, flags: 4 });
  assert.equal(types.idOf(KIND_TYPEDEF, "hook"), 4);
});

test("says what is missing", () => {
  const types = new KernelTypes(sample());
  assert.throws(() => types.offsetsOf("request", ["sector", "nothing"]), {
    code: "KERNEL_TYPES_UNKNOWN",
    message: /request has sector, nothing/,
  });
  // It begins within a byte.
  assert.throws(() => types.offsetsOf("request", ["int"]), { code: "KERNEL_TYPES_UNKNOWN" });
  assert.throws(() => types.idOf(KIND_TYPEDEF, "request"), /there is no request/);
});

test("whatever bytes there are, it finds something or says KERNEL_TYPES_UNKNOWN", () => {
  const whole = sample();
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(
      whole.subarray(0, round % 3 === 0 ? random(whole.length) : undefined),
    );
    for (let flips = random(4); flips > 0 && bytes.length > 0; flips--)
      bytes[random(bytes.length)] = random(256);
    try {
      const types = new KernelTypes(bytes);
      assert.ok(types.idOf(KIND_TYPEDEF, "hook") > 0);
      types.offsetsOf("request", ["sector", "flags"]);
    } catch (error) {
      assert.equal((error as { code?: unknown }).code, "KERNEL_TYPES_UNKNOWN", String(error));
      refused += 1;
    }
  }
  assert.ok(refused > 1000, `${refused} refused`);
});

test(
  "knows this kernel's requests",
  { skip: fs.existsSync("/sys/kernel/btf/vmlinux") ? false : "this kernel has no types" },
  () => {
    const types = KernelTypes.ofThisKernel();
    const { q, __sector } = types.offsetsOf("request", ["q", "__sector"]);
    assert.equal(q, 0);
    assert.ok(__sector > 0 && __sector % 8 === 0);
  },
);
