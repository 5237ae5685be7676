/** What a range of a block source holds. Adjacent extents of one kind may or may not be merged. */
export type Extent = {
  readonly offset: number;
  readonly bytes: number;
  /** True where the range reads as zeros without any stored data. */
  readonly zero: boolean;
};

/**
 * A disk, or an instant of one, that can be read. The law for every provider:
 * - content never changes while it is open;
 * - `read` fills all of `target` or throws; missing data is an error, never zeros;
 * - any number of reads may be under way at once;
 * - offsets and lengths are bytes, need no alignment, and lie within `sizeBytes`.
 */
export interface BlockSource extends AsyncDisposable {
  readonly sizeBytes: number;
  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Covers [offset, offset + bytes) without gaps, in ascending order, cut at its ends. */
  extents(offset: number, bytes: number, signal?: AbortSignal): Promise<readonly Extent[]>;
}
