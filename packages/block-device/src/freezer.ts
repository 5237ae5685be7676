/** A mounted file system: one per superblock. */
export type MountedFileSystem = {
  readonly mountPoint: string;
  readonly type: string;
  /** `major:minor` of the superblock. */
  readonly device: string;
  /** Path through which it can be opened from here (`/proc/<pid>/root/…` for private mount namespaces). */
  readonly openPath: string;
};

type FrozenDisk = { readonly major: number; readonly minor: number };

export type FreezeReport = {
  readonly frozen: readonly MountedFileSystem[];
  /** Those that cannot be frozen (vfat) and were synced instead. */
  readonly synced: readonly MountedFileSystem[];
};

/**
 * Freezes and thaws the file systems of the machine. Law:
 * - `prepare` finds those whose data is on the given whole disks, however many layers lie between, opens them and starts the guard, a process that thaws everything if this one dies or takes longer
 *   than the guard's limit; call it before `freeze`;
 * - `freeze` and `thaw` are synchronous, and between them nothing is spawned, logged or written;
 * - `freeze` checks `deadlineMonotonicMs` between mounts; beyond it, it thaws what it froze and throws FREEZE_OVERSHOT;
 * - `thaw` thaws in reverse order, and may be called twice; where the guard was first, it throws FREEZE_GUARD_THAWED, since
 *   whatever was read may then not be one instant;
 * - `release` ends the guard.
 */
export interface Freezer {
  prepare(disks: readonly FrozenDisk[]): Promise<PreparedFreeze>;
}

export interface PreparedFreeze extends AsyncDisposable {
  readonly fileSystems: readonly MountedFileSystem[];
  /** syncfs of each file system, without blocking the process; resolves with the duration of the longest, in ms. */
  sync(signal: AbortSignal): Promise<number>;
  freeze(deadlineMonotonicMs: number): FreezeReport;
  thaw(): void;
  release(): Promise<void>;
}
