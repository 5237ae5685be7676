import { isDeepStrictEqual } from "node:util";

import { OsrError, defineErrors } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import { openDirectReader } from "@osr/block-device/direct-reader";
import { readDiskInventory } from "@osr/block-device/disk-inventory";
import type {
  DiskInventory,
  ExcludedDisk,
  ProtectableDisk,
} from "@osr/block-device/protected-disk";
import { swapNames } from "@osr/block-device/swap-areas";
import { eventDeviceOf } from "@osr/block-device/tracefs-tracker";
import { learnEventDevices } from "@osr/block-device/trust";
import type { DiskChanges, DiskWatch, OpenedDisk } from "@osr/mobility-service/disk-watch";

import { LEARNING_INSTANCE } from "./trace-instances.ts";

const ERRORS = defineErrors({
  NO_DISKS: {
    retryable: false,
    hint: "Look at the reasons in the log, and at the field `disks` of the configuration.",
  },
});

/** Finds and opens the disks of this machine that are to be protected, now and while the service runs. */
export class ProtectedDisks implements DiskWatch {
  readonly #selection: readonly string[];
  #excludedDisks: readonly string[];
  readonly #ports: { readonly log: Log; readonly randomness: Randomness };
  #excluded = "";
  /** As they were when the disks were looked at last, and when all that was found of them had been taken. */
  #swapsSeen = "";
  #swapsTaken = "";

  /** `excludedDisks`: identities of disks that are left out although they are selected. */
  constructor(
    selection: readonly string[],
    ports: { readonly log: Log; readonly randomness: Randomness },
    excludedDisks: readonly string[] = [],
  ) {
    this.#selection = selection;
    this.#excludedDisks = excludedDisks;
    this.#ports = ports;
  }

  /** Leaves these out from the next look on, and no others. */
  exclude(excludedDisks: readonly string[]): void {
    this.#excludedDisks = excludedDisks;
  }

  isLeftOut(identity: string): boolean {
    return this.#excludedDisks.includes(identity);
  }

  /** Which disks there are. */
  async inventory(): Promise<DiskInventory> {
    // Before the areas themselves: what changes in between shows as stale.
    this.#swapsSeen = swapNames();
    const inventory = this.#without(
      await readDiskInventory({ selection: this.#selection, replicatedDataFolders: [] }),
    );
    this.#sayExcluded(inventory.excluded);
    return inventory;
  }

  /** Those that are there at the start. Throws NO_DISKS, TRACEFS_UNAVAILABLE. */
  async open({ disks, excluded }: DiskInventory): Promise<readonly OpenedDisk[]> {
    if (disks.length === 0) {
      const reasons = excluded.map(({ name, code }) => `${name}: ${code}`).join(", ");
      throw new OsrError(ERRORS.NO_DISKS, `there is no disk to protect (${reasons})`);
    }
    const opened: OpenedDisk[] = [];
    for (const disk of disks) opened.push(await this.#openDisk(disk));
    this.#swapsTaken = this.#swapsSeen;
    return opened;
  }

  async look(known: readonly ProtectableDisk[]): Promise<DiskChanges> {
    const { disks } = await this.inventory();
    const identities = new Set(disks.map(({ identity }) => identity));
    const vanished = known.filter(({ identity }) => !identities.has(identity));
    const appeared: OpenedDisk[] = [];
    for (const disk of disks)
      if (!known.some((other) => isDeepStrictEqual(other, { ...disk, isBoot: other.isBoot })))
        appeared.push(await this.#openDisk(disk));
    // Else whoever looks takes them first; the next look says so.
    if (appeared.length === 0) this.#swapsTaken = this.#swapsSeen;
    return { appeared, vanished };
  }

  isSwapCurrent(): boolean {
    return swapNames() === this.#swapsTaken;
  }

  #without({ disks, excluded }: DiskInventory): DiskInventory {
    const leftOut = disks
      .filter(({ identity }) => this.isLeftOut(identity))
      .map(({ name }) => ({
        name,
        code: "NOT_SELECTED" as const,
        reason: "the vault's settings leave it out",
      }));
    return {
      disks: disks.filter(({ identity }) => !this.isLeftOut(identity)),
      excluded: [...excluded, ...leftOut],
    };
  }

  /** Learns how its changes show. */
  async #openDisk(disk: ProtectableDisk): Promise<OpenedDisk> {
    const { log, randomness } = this.#ports;
    const reader = openDirectReader(disk);
    try {
      const trust = await learnEventDevices({ disk, reader, name: LEARNING_INSTANCE, randomness });
      const { name, identity, sizeBytes } = disk;
      log.info("disk protected", { name, identity, sizeBytes, trusted: trust.trusted });
      return {
        disk,
        reader,
        eventDevices: trust.trusted ? trust.eventDevices : [eventDeviceOf(disk)],
        untrusted: trust.trusted ? undefined : trust.reason,
      };
    } catch (error) {
      await reader[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Once for each state of the machine. */
  #sayExcluded(excluded: readonly ExcludedDisk[]): void {
    const text = JSON.stringify(excluded);
    if (text === this.#excluded) return;
    this.#excluded = text;
    for (const { name, code, reason } of excluded)
      this.#ports.log.info("disk not protected", { name, code, reason });
  }
}
