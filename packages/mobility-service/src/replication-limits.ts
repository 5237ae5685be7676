import { BLOCK_BYTES } from "@osr/base/block-range";
import { MIB } from "@osr/base/units";

/** How much of everything there may be. Smaller ones let tests reach every limit on small disks. */
export type ReplicationLimits = {
  /** Bytes of bitmaps over all dirty sets of the machine. */
  readonly dirtyMemoryBytesMax: number;
  /** Data of one batch, in blocks. A coarse granule has 256, and is never cut. */
  readonly batchBlocks: number;
  /** Batches of all disks that are being read or under way: the agent's whole memory for data on its way. */
  readonly batchesHeldMax: number;
  /** An interval ends after so many bytes, so that what was copied becomes vaulted and need not be sent again. */
  readonly intervalBytesMax: number;
};

/**
 * The agent's 100 MiB for 1 TiB of disks: an exact live set of that size whose changes are spread evenly takes 32 MiB
 * (interval sets, which only matter when an interval is void, coarsen first), batches 12 MiB, what is read during a freeze
 * 8 MiB, and Node itself about 45 MiB. Four batches of 2 MiB are also what one kill can make the agent send again.
 */
export const REPLICATION_LIMITS: ReplicationLimits = {
  dirtyMemoryBytesMax: 34 * MIB,
  batchBlocks: (2 * MIB) / BLOCK_BYTES,
  batchesHeldMax: 4,
  intervalBytesMax: 256 * MIB,
};
