import fs from "node:fs";

import { must } from "@osr/base/assert";

import {
  type BpfCalls,
  INNER_MAP,
  MAPPABLE,
  MAP_ARRAY,
  MAP_ARRAY_OF_MAPS,
  MAP_HASH,
} from "./bpf-calls.ts";
import type { BpfFolder } from "./bpf-folder.ts";
import {
  COUNTS_BYTES,
  DEVICE_BYTES,
  DEVICE_GRANULE_SHIFT,
  DEVICE_IS_CROWDED,
  DEVICE_NUMBER,
  DEVICE_SECTORS,
  DEVICE_SLOT,
  type ProgramMaps,
  QUICK_DEVICES,
  changeProgram,
  quickPlaceOf,
  requestPlaces,
} from "./change-program.ts";
import { type DirtyBitmapLayout, GROUP_BYTES, bytesOf, layoutWith } from "./dirty-bitmap-layout.ts";
import type { SharedMapping } from "./foreign-functions.ts";
import type { KernelTypes } from "./kernel-types.ts";
import { readText } from "./system-roots.ts";

/**
 * The kernel does not run a program where it interrupts the same program, and a completion may interrupt another one: in a
 * task, then in a soft interrupt, then in a hard one. Of three alike at least one runs, for whichever request.
 */
export const PROGRAMS = 3;
const EACH = Array.from({ length: PROGRAMS }, (_, index) => index);
export const SLOTS = 256;
const DEVICES_MAX = 1024;
/** No block device has this number. */
const NO_DEVICE = 0;

/** Changes whenever programs and maps of another version could not be used. */
export const LAYOUT_VERSION = 3;

/** In the kernel's struct bpf_prog_info (uapi/linux/bpf.h), bytes. */
const INFO_ID = 4;
const INFO_MISSES = 208;

const COUNTS = "counts";
const DEVICES = "devices";
const QUICK = "quick-devices";
const BITMAPS = "bitmaps";

/** What the program knows of a disk. */
export type KernelDisk = {
  readonly slot: number;
  readonly sectorCount: number;
  readonly layout: DirtyBitmapLayout;
};

/** The part of change tracking that is in the kernel: three programs and the maps that they read and write. */
export class KernelTracking implements Disposable {
  /** Names these programs, of all that run since the machine was booted. */
  readonly id: number;
  readonly #calls: BpfCalls;
  readonly #folder: BpfFolder;
  readonly #devices: number;
  readonly #quickDevices: number;
  readonly #bitmaps: number;
  readonly #countsMap: number;
  readonly #programs: readonly number[];
  readonly #links: number[] = [];
  readonly #info = Buffer.alloc(256);
  readonly #counts: SharedMapping;

  private constructor(
    calls: BpfCalls,
    folder: BpfFolder,
    maps: Omit<ProgramMaps, "rowsPerSlot">,
    programs: readonly number[],
  ) {
    this.#calls = calls;
    this.#folder = folder;
    this.#devices = maps.devices;
    this.#quickDevices = maps.quickDevices;
    this.#bitmaps = maps.bitmaps;
    this.#countsMap = maps.counts;
    this.#programs = programs;
    this.id = this.#infoOf(must(programs[0], "a program")).readUInt32LE(INFO_ID);
    this.#counts = calls.mapMemory(maps.counts, SLOTS * rowsPerSlot() * COUNTS_BYTES);
  }

  /** Loads programs that do not run yet. Throws BPF_UNAVAILABLE, KERNEL_TYPES_UNKNOWN. */
  static load(calls: BpfCalls, folder: BpfFolder, types: KernelTypes): KernelTracking {
    const places = requestPlaces(types);
    using open = new DisposableStack();
    const map = (type: number, valueBytes: number, entries: number, flags = 0): number =>
      kept(open, calls.createMap({ type, keyBytes: 4, valueBytes, entries, flags }));
    const devices = map(MAP_HASH, DEVICE_BYTES, DEVICES_MAX);
    const quickDevices = map(MAP_ARRAY, DEVICE_BYTES, QUICK_DEVICES);
    const rows = rowsPerSlot();
    const counts = map(MAP_ARRAY, COUNTS_BYTES, SLOTS * rows, MAPPABLE);
    const like = calls.createMap(bitmapOptions(layoutWith(0, 0)));
    const bitmaps = kept(
      open,
      calls.createMap({
        type: MAP_ARRAY_OF_MAPS,
        keyBytes: 4,
        valueBytes: 4,
        entries: SLOTS,
        inner: like,
      }),
    );
    fs.closeSync(like);
    const maps = { devices, quickDevices, counts, bitmaps };
    const programs = EACH.map((index) => {
      const code = changeProgram(places, { ...maps, rowsPerSlot: rows }, index);
      return kept(open, calls.loadProgram(code, places.tracepointTypeId));
    });
    const tracking = new KernelTracking(calls, folder, maps, programs);
    open.move();
    return tracking;
  }

  /** What a process that was killed has left running. Undefined where it has left nothing whole. */
  static open(calls: BpfCalls, folder: BpfFolder): KernelTracking | undefined {
    const programNames = EACH.map(programName);
    const linkNames = EACH.map(linkName);
    const names = [COUNTS, DEVICES, QUICK, BITMAPS, ...programNames, ...linkNames];
    if (!names.every((name) => folder.has(name))) return undefined;
    using open = new DisposableStack();
    const pinned = (name: string): number => kept(open, calls.openPin(folder.file(name)));
    const maps = {
      devices: pinned(DEVICES),
      quickDevices: pinned(QUICK),
      bitmaps: pinned(BITMAPS),
      counts: pinned(COUNTS),
    };
    const tracking = new KernelTracking(calls, folder, maps, programNames.map(pinned));
    tracking.#links.push(...linkNames.map(pinned));
    open.move();
    return tracking;
  }

  /** The programs run from here on, whatever becomes of this process. */
  start(): void {
    this.#folder.empty();
    const pin = (fd: number, name: string): void => this.#calls.pin(fd, this.#folder.file(name));
    pin(this.#devices, DEVICES);
    pin(this.#quickDevices, QUICK);
    pin(this.#bitmaps, BITMAPS);
    pin(this.#countsMap, COUNTS);
    for (const [index, program] of this.#programs.entries()) {
      pin(program, programName(index));
      const link = this.#calls.attach(program);
      this.#links.push(link);
      pin(link, linkName(index));
    }
  }

  /** How often the kernel did not run one of the programs, as it was interrupted. */
  misses(program: number): number {
    const fd = must(this.#programs[program], "a program");
    return Number(this.#infoOf(fd).readBigUInt64LE(INFO_MISSES));
  }

  /** What the programs count of a slot: a row for each CPU, then one that is ours. */
  countsOf(slot: number): { readonly counts: Uint32Array; readonly ours: Float64Array } {
    const rows = rowsPerSlot();
    const { buffer } = this.#counts;
    const at = slot * rows * COUNTS_BYTES;
    const bytes = (rows - 1) * COUNTS_BYTES;
    return {
      counts: new Uint32Array(buffer, at, bytes / 4),
      ours: new Float64Array(buffer, at + bytes, COUNTS_BYTES / 8),
    };
  }

  /** Makes the bitmap of a slot, all zeros, and the counts of its programs zero. */
  makeBitmap(slot: number, layout: DirtyBitmapLayout): SharedMapping {
    const fd = this.#calls.createMap(bitmapOptions(layout));
    try {
      this.#folder.remove(bitmapName(slot));
      this.#calls.pin(fd, this.#folder.file(bitmapName(slot)));
      const { counts, ours } = this.countsOf(slot);
      counts.fill(0);
      ours.fill(0);
      this.#calls.update(this.#bitmaps, numberKey(slot), numberKey(fd));
      return this.#calls.mapMemory(fd, bytesOf(layout));
    } finally {
      fs.closeSync(fd);
    }
  }

  /** The bitmap that a predecessor made. Throws BPF_UNAVAILABLE where there is none. */
  openBitmap(slot: number, layout: DirtyBitmapLayout): SharedMapping {
    const fd = this.#calls.openPin(this.#folder.file(bitmapName(slot)));
    try {
      return this.#calls.mapMemory(fd, bytesOf(layout));
    } finally {
      fs.closeSync(fd);
    }
  }

  forgetBitmap(slot: number): void {
    this.#folder.remove(bitmapName(slot));
    this.#calls.delete(this.#bitmaps, numberKey(slot));
  }

  /** Requests of the device count for the disk from here on. */
  setDevice(eventDevice: number, { slot, sectorCount, layout }: KernelDisk): void {
    const value = Buffer.alloc(DEVICE_BYTES);
    value.writeUInt32LE(slot, DEVICE_SLOT);
    value.writeUInt32LE(layout.granuleShift, DEVICE_GRANULE_SHIFT);
    value.writeBigUInt64LE(BigInt(sectorCount), DEVICE_SECTORS);
    value.writeUInt32LE(eventDevice, DEVICE_NUMBER);
    // In this order: whoever is killed in between leaves nothing in the quick place that is older than the hash map.
    this.#leaveQuickPlace(eventDevice);
    this.#calls.update(this.#devices, numberKey(eventDevice), value);
    this.#takeQuickPlace(eventDevice, value);
  }

  /** What a device counts for. */
  deviceOf(eventDevice: number): KernelDisk | undefined {
    const value = Buffer.alloc(DEVICE_BYTES);
    if (!this.#calls.lookup(this.#devices, numberKey(eventDevice), value)) return undefined;
    const sectorCount = Number(value.readBigUInt64LE(DEVICE_SECTORS));
    return {
      slot: value.readUInt32LE(DEVICE_SLOT),
      sectorCount,
      layout: layoutWith(sectorCount, value.readUInt32LE(DEVICE_GRANULE_SHIFT)),
    };
  }

  deleteDevice(eventDevice: number): void {
    this.#leaveQuickPlace(eventDevice);
    this.#calls.delete(this.#devices, numberKey(eventDevice));
  }

  /** All devices that count for some disk. */
  eventDevices(): readonly number[] {
    return this.#calls.keys(this.#devices).map((key) => key.readUInt32LE(0));
  }

  /**
   * Programs read a place while it is written: its number is there last, and goes alone. A place that was crowded once stays
   * so, whoever has it.
   */
  #takeQuickPlace(eventDevice: number, value: Buffer): void {
    const { place, found } = this.#quickPlace(eventDevice);
    const write = (content: Buffer): void => this.#calls.update(this.#quickDevices, place, content);
    if (found.readUInt32LE(DEVICE_NUMBER) !== NO_DEVICE) {
      found.writeUInt32LE(1, DEVICE_IS_CROWDED);
      return write(found);
    }
    value.writeUInt32LE(found.readUInt32LE(DEVICE_IS_CROWDED), DEVICE_IS_CROWDED);
    value.writeUInt32LE(NO_DEVICE, DEVICE_NUMBER);
    write(value);
    value.writeUInt32LE(eventDevice, DEVICE_NUMBER);
    write(value);
  }

  #leaveQuickPlace(eventDevice: number): void {
    const { place, found } = this.#quickPlace(eventDevice);
    if (found.readUInt32LE(DEVICE_NUMBER) !== eventDevice) return;
    found.writeUInt32LE(NO_DEVICE, DEVICE_NUMBER);
    this.#calls.update(this.#quickDevices, place, found);
  }

  /** The key of a device's place, and what is there, be it this device, another one or none. */
  #quickPlace(eventDevice: number): { readonly place: Buffer; readonly found: Buffer } {
    const place = numberKey(quickPlaceOf(eventDevice));
    const found = Buffer.alloc(DEVICE_BYTES);
    this.#calls.lookup(this.#quickDevices, place, found);
    return { place, found };
  }

  #infoOf(fd: number): Buffer {
    return this.#calls.info(fd, this.#info);
  }

  /** Lets go; what runs goes on. */
  [Symbol.dispose](): void {
    this.#counts[Symbol.dispose]();
    const maps = [this.#devices, this.#quickDevices, this.#bitmaps, this.#countsMap];
    for (const fd of [...maps, ...this.#programs, ...this.#links]) fs.closeSync(fd);
  }
}

/** Closes a file with the stack, unless the stack is moved. */
function kept(open: DisposableStack, fd: number): number {
  return open.adopt(fd, fs.closeSync);
}

function bitmapOptions({ groups }: DirtyBitmapLayout) {
  const flags = MAPPABLE | INNER_MAP;
  return { type: MAP_ARRAY, keyBytes: 4, valueBytes: GROUP_BYTES, entries: groups, flags };
}

function bitmapName(slot: number): string {
  return `bitmap-${slot}`;
}

function programName(index: number): string {
  return `program-${index}`;
}

function linkName(index: number): string {
  return `link-${index}`;
}

function numberKey(value: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(value);
  return key;
}

/** One for each CPU that the machine can ever have, and one more. */
function rowsPerSlot(): number {
  const possible = readText("/sys/devices/system/cpu/possible") ?? "0";
  const highest = Number(/(\d+)$/.exec(possible)?.[1] ?? 0);
  return highest + 2;
}
