import * as fc from "fast-check";

/** A change of some bytes that were whole. Places are taken modulo the length, so that each fits any bytes. */
export type Mutation =
  | { readonly kind: "flip"; readonly at: number; readonly bits: number }
  | { readonly kind: "number"; readonly at: number; readonly value: number }
  | { readonly kind: "cut"; readonly at: number }
  | { readonly kind: "drop" | "repeat"; readonly at: number; readonly bytes: number }
  | { readonly kind: "swap"; readonly at: number; readonly bytes: number; readonly with: number }
  | { readonly kind: "insert"; readonly at: number; readonly noise: Uint8Array };

const PLACE_MAX = 2 ** 24;
const RANGE_BYTES_MAX = 8192;
const MUTATIONS_MAX = 4;

const at = fc.oneof(fc.nat(256), fc.nat(PLACE_MAX));
const bytes = fc.oneof(
  fc.integer({ min: 1, max: 128 }),
  fc.constant(4096),
  fc.nat(RANGE_BYTES_MAX),
);
/** Where counts and lengths turn over. */
const value = fc.oneof(
  fc.constantFrom(0, 1, 0x7f, 0xff, 0xffff, 0x0010_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
  fc.nat(0xffff_ffff),
);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant("flip"), at, bits: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ kind: fc.constant("number"), at, value }),
  fc.record({ kind: fc.constant("cut"), at }),
  fc.record({ kind: fc.constantFrom("drop", "repeat"), at, bytes }),
  fc.record({ kind: fc.constant("swap"), at, bytes, with: at }),
  fc.record({ kind: fc.constant("insert"), at, noise: fc.uint8Array({ maxLength: 64 }) }),
);

/** What becomes of bytes on a bad way or in bad hands: bits flip, numbers change, parts are lost, come twice, or move. */
export const mutations: fc.Arbitrary<readonly Mutation[]> = fc.array(mutation, {
  minLength: 1,
  maxLength: MUTATIONS_MAX,
});

/** A changed copy. */
export function mutated(source: Buffer, changes: readonly Mutation[]): Buffer {
  let current: Buffer = Buffer.from(source);
  for (const change of changes) if (current.length > 0) current = applied(current, change);
  return current;
}

function applied(source: Buffer, change: Mutation): Buffer {
  const from = change.at % source.length;
  switch (change.kind) {
    case "flip":
      source[from] = (source[from] ?? 0) ^ change.bits;
      return source;
    case "number":
      if (from + 4 <= source.length) source.writeUInt32LE(change.value, from);
      return source;
    case "cut":
      return source.subarray(0, from);
    case "drop":
      return Buffer.concat([source.subarray(0, from), source.subarray(from + change.bytes)]);
    case "repeat": {
      const end = from + change.bytes;
      return Buffer.concat([source.subarray(0, end), source.subarray(from)]);
    }
    case "swap":
      return swapped(source, from, change.with % source.length, change.bytes);
    case "insert":
      return Buffer.concat([source.subarray(0, from), change.noise, source.subarray(from)]);
  }
}

function swapped(source: Buffer, one: number, other: number, bytes: number): Buffer {
  const [first, second] = one < other ? [one, other] : [other, one];
  const length = Math.min(bytes, second - first, source.length - second);
  const kept = Buffer.from(source.subarray(first, first + length));
  source.copy(source, first, second, second + length);
  kept.copy(source, second);
  return source;
}
