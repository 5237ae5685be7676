import type { DirectReader, ProtectableDisk } from "@osr/block-device/protected-disk";

/** A disk that is to be replicated, opened. */
export type OpenedDisk = {
  readonly disk: ProtectableDisk;
  /** Closed by whoever gets it, when the disk is given up. */
  readonly reader: DirectReader;
  /** Under which device numbers its changes show. */
  readonly eventDevices: readonly number[];
  /** Why its changes cannot be followed on this machine: then it is not copied, and no points are made. */
  readonly untrusted?: string | undefined;
};

export type DiskChanges = {
  /** Opened: new disks, and known ones that are not what they were, such as larger or attached anew. */
  readonly appeared: readonly OpenedDisk[];
  /** Known ones that the machine does not have any more. */
  readonly vanished: readonly ProtectableDisk[];
};

/** Watches which disks the machine has while the service runs. */
export interface DiskWatch {
  /** Compares the machine's disks with those that are known. Each of `known` is in neither list where it is as it was. */
  look(known: readonly ProtectableDisk[]): Promise<DiskChanges>;
  /** Whether somebody wants the disk of this identity left out by now; `look` is not asked about those. */
  isLeftOut(identity: string): boolean;
  /**
   * False where areas have come into use as swap, or are it no more, since the disks were looked at: what was ignored of them
   * may be data by now. Synchronous, for the time between freeze and thaw.
   */
  isSwapCurrent(): boolean;
}
