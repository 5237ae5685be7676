import { BpfAssembler, type Register } from "./bpf-assembler.ts";
import { GROUP_MARKED, GROUP_WHOLES, GROUP_WORDS } from "./dirty-bitmap-layout.ts";
import { KIND_TYPEDEF, type KernelTypes } from "./kernel-types.ts";

/** The kernel's tracepoint, as a type: its arguments are a request, a status and a number of bytes. */
const TRACEPOINT = "btf_trace_block_rq_complete";
const ARGUMENT_REQUEST = 0;
const ARGUMENT_BYTES = 16;

/** Kernel, include/linux/blk_types.h, enum req_op. */
const OPERATION_MASK = 0xff;
const OPERATION_READ = 0;
const OPERATION_DISCARD = 3;
const OPERATION_DRIVER_IN = 34;
/** Of a request that is no read or write of sectors. */
const NO_SECTOR = -1;
const SECTOR_SHIFT = 9;
const MAJOR_SHIFT = 20;

const MAP_LOOKUP = 1;
const CPU = 8;

/** What the program finds by the device number of a request, in `quickDevices` or, where that place is crowded, in `devices`. */
export const DEVICE_BYTES = 24;
export const DEVICE_SLOT = 0;
export const DEVICE_GRANULE_SHIFT = 4;
export const DEVICE_SECTORS = 8;
export const DEVICE_NUMBER = 16;
/** Not zero in a place of `quickDevices` that some device had to do without: only `devices` has that one. */
export const DEVICE_IS_CROWDED = 20;

/**
 * Places of `quickDevices`, a power of two. Looking there costs a tenth of a hash map's look, which every request pays thrice,
 * those of disks that are not tracked among them.
 */
export const QUICK_DEVICES = 256;

/** The one place at which a device may be in `quickDevices`. */
export function quickPlaceOf(eventDevice: number): number {
  return (eventDevice ^ (eventDevice >>> MAJOR_SHIFT)) & (QUICK_DEVICES - 1);
}

/** What programs count for each slot and CPU, in `counts`: so many bytes, of them these for each program. */
export const COUNTS_BYTES = 128;
export const COUNTS_OF_PROGRAM_BYTES = 24;
export const COUNT_WRITTEN = 0;
export const COUNT_DISCARDED = 8;
export const COUNT_UNPLACED = 16;

/** Places on the stack. */
const KEY = -4;
const OPERATION = -16;
const FIRST_WORD = -24;
const LAST_WORD = -32;
const WORD = -40;
const MASK = -48;
const TURN = -56;
const QUICK_PLACE = -60;
/** A request has less than 4 GiB, so its granules of 4 KiB or more are in at most 257 groups. */
const TURNS_MAX = 260;

const WORD_SHIFT = 6;
const WORD_MASK = 63;
const WORD_BYTES_SHIFT = 3;
const ALL = -1;

export type ProgramMaps = {
  readonly devices: number;
  readonly quickDevices: number;
  readonly counts: number;
  readonly bitmaps: number;
  /** Rows of `counts` that each slot has. */
  readonly rowsPerSlot: number;
};

/** Where this kernel has what of a request, in bytes, and the number of its tracepoint. */
export type RequestPlaces = {
  readonly tracepointTypeId: number;
  readonly request: {
    readonly sector: number;
    readonly flags: number;
    readonly queue: number;
  };
  readonly queue: { readonly disk: number };
  readonly disk: { readonly major: number; readonly first_minor: number };
};

/** Throws KERNEL_TYPES_UNKNOWN. */
export function requestPlaces(types: KernelTypes): RequestPlaces {
  const request = types.offsetsOf("request", ["__sector", "cmd_flags", "q"]);
  return {
    tracepointTypeId: types.idOf(KIND_TYPEDEF, TRACEPOINT),
    request: {
      sector: request["__sector"],
      flags: request.cmd_flags,
      queue: request.q,
    },
    queue: types.offsetsOf("request_queue", ["disk"]),
    disk: types.offsetsOf("gendisk", ["major", "first_minor"]),
  };
}

/**
 * The program that the kernel runs at the completion of each block request: for disks that are tracked, it counts the sectors
 * and sets the bits of what may have changed, see DirtyBitmapLayout. `index` says which of several alike it is; they differ in
 * where they count.
 *
 * A bit that is set already is not written again. That is safe, as whoever clears it reads the disk afterwards, and the data
 * of this request is there by now. The mark of the group is looked at all the same: whoever set the bit may not have come to it yet.
 */
export function changeProgram(places: RequestPlaces, maps: ProgramMaps, index: number): Buffer {
  const writer = new ProgramWriter(places, maps, index);
  writer.write();
  return writer.assemble();
}

class ProgramWriter {
  readonly #places: RequestPlaces;
  readonly #maps: ProgramMaps;
  readonly #index: number;
  readonly #a = new BpfAssembler();
  #labels = 0;

  constructor(places: RequestPlaces, maps: ProgramMaps, index: number) {
    this.#places = places;
    this.#maps = maps;
    this.#index = index;
  }

  assemble(): Buffer {
    return this.#a.assemble();
  }

  /** Kept in registers: r6 the sector, later the granule; r7 the end; r8 the bitmap; r9 the device. */
  write(): void {
    const a = this.#a;
    this.#readRequest();
    this.#findDevice();
    this.#count();
    this.#findGranules();
    this.#markEnds();
    this.#markWholes();
    a.label("end");
    a.compute(0, "move", 0);
    a.exit();
  }

  /** r6 = sector, r7 = sectors, r1 = request. Ends at reads and at what has no sectors. */
  #readRequest(): void {
    const a = this.#a;
    const { request, queue, disk } = this.#places;
    a.load(8, 7, 1, ARGUMENT_BYTES);
    a.load(8, 1, 1, ARGUMENT_REQUEST);
    a.compute(7, "and", 0x7fffffff);
    a.compute(7, "shiftRight", SECTOR_SHIFT);
    a.jumpIf(7, "equal", 0, "end");
    a.load(4, 2, 1, request.flags);
    a.compute(2, "and", OPERATION_MASK);
    a.jumpIf(2, "equal", OPERATION_READ, "end");
    a.jumpIf(2, "equal", OPERATION_DRIVER_IN, "end");
    a.store(8, 10, OPERATION, 2);
    a.load(8, 6, 1, request.sector);
    a.load(8, 3, 1, request.queue);
    a.load(8, 3, 3, queue.disk);
    a.jumpIf(3, "equal", 0, "end");
    a.load(4, 4, 3, disk.major);
    a.load(4, 5, 3, disk.first_minor);
    a.compute(4, "shiftLeft", MAJOR_SHIFT);
    a.compute(4, "add", { r: 5 });
    a.store(4, 10, KEY, 4);
  }

  /** r9 = the device. Ends where it is none of ours. r4 has its number. */
  #findDevice(): void {
    const a = this.#a;
    const { devices, quickDevices } = this.#maps;
    a.compute(5, "move", { r: 4 });
    a.compute(5, "shiftRight", MAJOR_SHIFT);
    a.compute(5, "exclusiveOr", { r: 4 });
    a.compute(5, "and", QUICK_DEVICES - 1);
    a.store(4, 10, QUICK_PLACE, 5);
    this.#lookup(() => a.loadMap(1, quickDevices), QUICK_PLACE);
    a.load(4, 1, 0, DEVICE_NUMBER);
    a.load(4, 2, 10, KEY);
    a.jumpIf(1, "equal", { r: 2 }, "found");
    a.load(4, 1, 0, DEVICE_IS_CROWDED);
    a.jumpIf(1, "equal", 0, "end");
    this.#lookup(() => a.loadMap(1, devices));
    a.label("found");
    a.compute(9, "move", { r: 0 });
  }

  #count(): void {
    const a = this.#a;
    const at = this.#index * COUNTS_OF_PROGRAM_BYTES;
    a.call(CPU);
    a.load(4, 1, 9, DEVICE_SLOT);
    a.compute(1, "multiply", this.#maps.rowsPerSlot);
    a.compute(1, "add", { r: 0 });
    a.store(4, 10, KEY, 1);
    this.#lookup(() => a.loadMap(1, this.#maps.counts));
    a.jumpIf(6, "equal", NO_SECTOR, "unplaced");
    a.load(8, 1, 10, OPERATION);
    a.jumpIf(1, "equal", OPERATION_DISCARD, "discard");
    this.#add(at + COUNT_WRITTEN, { r: 7 });
    a.jump("counted");
    a.label("discard");
    this.#add(at + COUNT_DISCARDED, { r: 7 });
    a.label("counted");
    a.load(8, 2, 9, DEVICE_SECTORS);
    a.jumpIf(2, "above", { r: 6 }, "placed");
    a.label("unplaced");
    this.#add(at + COUNT_UNPLACED, 1);
    a.jump("end");
  }

  /** To what is counted at r0: only this program on this CPU writes there, and the kernel does not run it within itself. */
  #add(offset: number, more: { r: Register } | number): void {
    const a = this.#a;
    a.load(8, 2, 0, offset);
    a.compute(2, "add", more);
    a.store(8, 0, offset, 2);
  }

  /** r6 = first granule, r7 = last granule, r8 = bitmap. r2 has the disk's sectors. */
  #findGranules(): void {
    const a = this.#a;
    a.label("placed");
    a.compute(7, "add", { r: 6 });
    a.jumpIf(2, "notBelow", { r: 7 }, "within");
    a.compute(7, "move", { r: 2 });
    a.label("within");
    a.compute(7, "add", -1);
    a.load(4, 3, 9, DEVICE_GRANULE_SHIFT);
    a.compute(3, "and", WORD_MASK);
    a.compute(6, "shiftRight", { r: 3 });
    a.compute(7, "shiftRight", { r: 3 });
    a.loadMap(1, this.#maps.bitmaps);
    // The slot is the device's first field.
    a.compute(2, "move", { r: 9 });
    a.call(MAP_LOOKUP);
    a.jumpIf(0, "equal", 0, "end");
    a.compute(8, "move", { r: 0 });
  }

  /** The first and the last word, bit by bit. */
  #markEnds(): void {
    const a = this.#a;
    this.#maskFrom(1, 6);
    this.#maskTo(3, 7);
    a.compute(4, "move", { r: 6 });
    a.compute(4, "shiftRight", WORD_SHIFT);
    a.compute(5, "move", { r: 7 });
    a.compute(5, "shiftRight", WORD_SHIFT);
    a.store(8, 10, FIRST_WORD, 4);
    a.store(8, 10, LAST_WORD, 5);
    a.jumpIf(4, "equal", { r: 5 }, "one word");
    this.#markWord(4, 1);
    this.#maskTo(1, 7);
    a.load(8, 4, 10, LAST_WORD);
    this.#markWord(4, 1);
    a.jump("wholes");
    a.label("one word");
    a.compute(1, "and", { r: 3 });
    this.#markWord(4, 1);
    a.jump("end");
  }

  /** All words between the first and the last one, by their groups. r6 = group, r7 = last group. */
  #markWholes(): void {
    const a = this.#a;
    a.label("wholes");
    a.load(8, 6, 10, FIRST_WORD);
    a.compute(6, "add", 1);
    a.load(8, 7, 10, LAST_WORD);
    a.jumpIf(6, "notBelow", { r: 7 }, "end");
    a.compute(7, "add", -1);
    this.#maskFrom(1, 6);
    a.store(8, 10, MASK, 1);
    this.#maskTo(1, 7);
    a.store(8, 10, LAST_WORD, 1);
    a.compute(6, "shiftRight", WORD_SHIFT);
    a.compute(7, "shiftRight", WORD_SHIFT);
    a.compute(1, "move", 0);
    a.store(8, 10, TURN, 1);
    a.label("group");
    a.load(8, 1, 10, MASK);
    a.jumpIf(7, "above", { r: 6 }, "not the last");
    a.load(8, 2, 10, LAST_WORD);
    a.compute(1, "and", { r: 2 });
    a.store(8, 10, MASK, 1);
    a.label("not the last");
    this.#findGroup(6);
    a.load(8, 1, 10, MASK);
    // Wholes first: whoever sees the mark sees why.
    this.#setBits(0, GROUP_WHOLES, 1);
    this.#setBits(0, GROUP_MARKED, 1);
    a.compute(1, "move", ALL);
    a.store(8, 10, MASK, 1);
    a.load(8, 1, 10, TURN);
    a.compute(1, "add", 1);
    a.jumpIf(1, "above", TURNS_MAX, "end");
    a.store(8, 10, TURN, 1);
    a.compute(6, "add", 1);
    a.jumpIf(7, "notBelow", { r: 6 }, "group");
  }

  /** Sets bits of a word, then the mark of its group. */
  #markWord(word: Register, mask: Register): void {
    const a = this.#a;
    a.store(8, 10, WORD, word);
    a.store(8, 10, MASK, mask);
    a.compute(word, "shiftRight", WORD_SHIFT);
    this.#findGroup(word);
    a.load(8, 1, 10, MASK);
    a.load(8, 2, 10, WORD);
    a.compute(2, "and", WORD_MASK);
    a.compute(3, "move", { r: 2 });
    a.compute(3, "shiftLeft", WORD_BYTES_SHIFT);
    a.compute(3, "add", { r: 0 });
    this.#setBits(3, GROUP_WORDS, 1);
    a.compute(1, "move", 1);
    a.compute(1, "shiftLeft", { r: 2 });
    this.#setBits(0, GROUP_MARKED, 1);
  }

  /** r0 = the group. Ends where the bitmap has no such group. */
  #findGroup(group: Register): void {
    const a = this.#a;
    a.store(4, 10, KEY, group);
    this.#lookup(() => a.compute(1, "move", { r: 8 }));
  }

  /** Sets the bits of `mask` in a word of the group; r4 is lost. */
  #setBits(base: Register, offset: number, mask: Register): void {
    const a = this.#a;
    const isSet = `set ${(this.#labels += 1)}`;
    a.load(8, 4, base, offset);
    a.compute(4, "and", { r: mask });
    a.jumpIf(4, "equal", { r: mask }, isSet);
    a.atomicOr(base, offset, mask);
    a.label(isSet);
  }

  /** r0 = where the value of a key on the stack is, in the map that `loadMap` puts into r1. Ends where there is none. */
  #lookup(loadMap: () => void, key: number = KEY): void {
    const a = this.#a;
    loadMap();
    a.compute(2, "move", { r: 10 });
    a.compute(2, "add", key);
    a.call(MAP_LOOKUP);
    a.jumpIf(0, "equal", 0, "end");
  }

  /** Bits from that of a granule, or word, to the highest. */
  #maskFrom(target: Register, granule: Register): void {
    const a = this.#a;
    a.compute(2, "move", { r: granule });
    a.compute(2, "and", WORD_MASK);
    a.compute(target, "move", ALL);
    a.compute(target, "shiftLeft", { r: 2 });
  }

  /** Bits from the lowest to that of a granule, or word. */
  #maskTo(target: Register, granule: Register): void {
    const a = this.#a;
    a.compute(2, "move", WORD_MASK);
    a.compute(4, "move", { r: granule });
    a.compute(4, "and", WORD_MASK);
    // 63 - bit: its complement in six places.
    a.compute(2, "exclusiveOr", { r: 4 });
    a.compute(target, "move", ALL);
    a.compute(target, "shiftRight", { r: 2 });
  }
}
