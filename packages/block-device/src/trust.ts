import { BLOCK_BYTES } from "@osr/base/block-range";
import type { Randomness } from "@osr/base/randomness";
import { MIB } from "@osr/base/units";

import { ALIGNMENT_BYTES, alignedBuffer } from "./aligned-buffer.ts";
import type { DirectReader } from "./protected-disk.ts";
import { READ, type RequestKind, type RequestSink } from "./ring-page.ts";
import { TraceInstance } from "./trace-instance.ts";
import { eventDeviceOf } from "./tracefs-tracker.ts";

const READS = 16;
const SECTOR_BYTES = 512;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** Whether the trace events of a disk can be relied on, and under which device numbers they come. */
export type Trust =
  | { readonly trusted: true; readonly eventDevices: readonly number[] }
  | { readonly trusted: false; readonly reason: string };

export type LearnOptions = {
  readonly disk: { readonly major: number; readonly minor: number };
  readonly reader: DirectReader;
  /** Name of a trace instance for this moment: `osr-…`, not the tracker's. */
  readonly name: string;
  readonly randomness: Randomness;
};

/**
 * Trust is earned: reads a few random blocks with O_DIRECT and expects each one as a read event. The device number of those
 * events need not be the disk's (NVMe multipath traces hidden ones), so it is learnt here. Throws DISK_UNREADABLE, and what
 * `TraceInstance` throws.
 */
export async function learnEventDevices(options: LearnOptions): Promise<Trust> {
  const { disk, reader, name, randomness } = options;
  const filter = `nr_sector == ${BLOCK_SECTORS} && rwbs ~ "R*"`;
  using instance = new TraceInstance({ name, ringBytesPerCpu: MIB, filter });
  const hits = new ReadHits();
  const target = alignedBuffer(ALIGNMENT_BYTES);
  const blocks = Math.floor(reader.sizeBytes / BLOCK_BYTES);
  if (blocks === 0) return { trusted: false, reason: "the disk is smaller than one block" };
  for (let read = 0; read < READS; read++) {
    const block = randomness.bytes(6).readUIntLE(0, 6) % blocks;
    hits.expect(block * BLOCK_SECTORS);
    await reader.read(block * BLOCK_BYTES, target);
    if (instance.drain(hits)) return { trusted: false, reason: "the kernel lost trace events" };
    if (!hits.found)
      return { trusted: false, reason: `a read of block ${block} did not appear as a trace event` };
  }
  const complete = hits.devicesWith(READS);
  const own = eventDeviceOf(disk);
  if (complete.includes(own)) return { trusted: true, eventDevices: [own] };
  // One hidden device saw all reads, or several paths shared them.
  return { trusted: true, eventDevices: complete.length === 1 ? complete : hits.devicesWith(1) };
}

class ReadHits implements RequestSink {
  found = false;
  #sector = 0;
  readonly #readsOfDevice = new Map<number, number>();

  expect(sector: number): void {
    this.#sector = sector;
    this.found = false;
  }

  request(eventDevice: number, kind: RequestKind, sector: number): void {
    if (kind !== READ || sector !== this.#sector) return;
    this.found = true;
    this.#readsOfDevice.set(eventDevice, (this.#readsOfDevice.get(eventDevice) ?? 0) + 1);
  }

  devicesWith(readsMin: number): readonly number[] {
    return [...this.#readsOfDevice].filter(([, reads]) => reads >= readsMin).map(([dev]) => dev);
  }
}
