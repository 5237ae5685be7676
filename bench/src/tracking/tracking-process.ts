import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { must } from "@osr/base/assert";
import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";
import type { ChangeTracker } from "@osr/block-device/change-tracker";
import { SystemTracker } from "@osr/block-device/system-tracker";
import { eventDeviceOf } from "@osr/block-device/tracefs-tracker";
import { ChangeIntake } from "@osr/mobility-service/change-intake";
import { DirtyMemory } from "@osr/mobility-service/dirty-memory";
import { DirtySet } from "@osr/mobility-service/dirty-set";

/**
 * The tracking of the mobility service and nothing else of it, as a process of its own: `on` and `off` on the standard input.
 * Ring, time between drains, filter and dirty set are those of the service.
 */
const INSTANCE = "osr-bench-tracking";
const RING_BYTES_PER_CPU = 4 * MIB;
const SECTOR_BYTES = 512;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** What it answers to `off`. */
export type TrackedReport = {
  readonly changes: number;
  readonly dirtyBlocks: number;
  readonly lost: boolean;
};

class Tracking {
  readonly #tracker: ChangeTracker;
  readonly #intake: ChangeIntake;
  readonly #dirty: DirtySet;
  readonly #timer: NodeJS.Timeout;
  #changes = 0;
  #lost = false;

  constructor(diskName: string) {
    const read = (file: string): string =>
      readFileSync(`/sys/class/block/${diskName}/${file}`, "utf8").trim();
    const [major = 0, minor = 0] = read("dev").split(":").map(Number);
    const sectorCount = Number(read("size"));
    this.#tracker = new SystemTracker({ name: INSTANCE, ringBytesPerCpu: RING_BYTES_PER_CPU });
    const index = this.#tracker.add({
      eventDevices: [eventDeviceOf({ major, minor })],
      sectorCount,
      ignoredRanges: [],
    });
    const memory = new DirtyMemory(34 * MIB);
    const dirty = new DirtySet(Math.ceil(sectorCount / BLOCK_SECTORS), memory, { isLive: true });
    this.#dirty = dirty;
    this.#intake = new ChangeIntake(this.#tracker);
    this.#intake.add(index, {
      changed(sector, count) {
        const first = Math.floor(sector / BLOCK_SECTORS);
        dirty.add(first, Math.ceil((sector + count) / BLOCK_SECTORS) - first);
      },
      changedBlocks(firstBlock, bits) {
        dirty.addBits(firstBlock, bits);
      },
      distrust: () => {
        this.#lost = true;
      },
    });
    this.#tracker.start();
    this.#timer = setInterval(() => this.#drain(), this.#tracker.drainEveryMs);
  }

  #drain(): void {
    const changes = this.#intake.drain();
    if (changes !== "lost") this.#changes += changes;
  }

  end(): TrackedReport {
    clearInterval(this.#timer);
    this.#drain();
    this.#tracker[Symbol.dispose]();
    return { changes: this.#changes, dirtyBlocks: this.#dirty.blocks, lost: this.#lost };
  }
}

const diskName = must(process.argv[2], "the name of a disk");
let tracking: Tracking | undefined;
process.stdout.write("ready\n");
for await (const word of createInterface(process.stdin)) {
  const report = tracking?.end() ?? {};
  tracking = word === "on" ? new Tracking(diskName) : undefined;
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
tracking?.end();
