/** A whole disk that can be protected. */
export type ProtectableDisk = {
  /**
   * Stable over reboots and renaming: `wwid:…`, `serial:…`, `mduuid:…`, `pvuuid:…`, `ptuuid:…` or `fsuuid:…`, in this order
   * of preference.
   */
  readonly identity: string;
  /** Kernel name, such as `vda`. */
  readonly name: string;
  /** `/dev/vda`. */
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** Another one each time that the kernel makes the disk: one that was detached in between has a new one. */
  readonly sequence: number;
  readonly sizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly isBoot: boolean;
  /** Sector ranges in use as swap, whose content is neither replicated nor counted as a change; header page excluded. */
  readonly swapRanges: readonly { readonly sector: number; readonly count: number }[];
};

/** A disk that is not protected, and why. */
export type ExcludedDisk = {
  readonly name: string;
  readonly code:
    | "NOT_A_DISK"
    | "READ_ONLY"
    | "REMOVABLE"
    | "TOO_SMALL"
    | "TOO_LARGE"
    | "NO_IDENTITY"
    | "MEMORY_DISK"
    | "HOLDS_REPLICATED_DATA"
    | "NOT_SELECTED"
    | "LAYERED";
  readonly reason: string;
};

export type DiskInventory = {
  readonly disks: readonly ProtectableDisk[];
  readonly excluded: readonly ExcludedDisk[];
};

/**
 * Reads a disk past the page cache (O_DIRECT): a buffered read of a mounted device can return stale data, also while it is
 * frozen. Offsets and lengths are multiples of 4096, `target` is page-aligned (see `alignedBuffer`).
 */
export interface DirectReader extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Reads into `target`; where the disk ends within it, the rest is zeros. Throws DISK_UNREADABLE with the block. */
  read(offset: number, target: Buffer): Promise<void>;
  /** The same, blocking: for the time between freeze and thaw. */
  readSync(offset: number, target: Buffer): void;
}
