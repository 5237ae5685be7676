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
 * For 100 MiB of the agent's own memory with 1 TiB of disks: an exact live set of that size whose changes are spread evenly
 * takes 32 MiB (interval sets, which only matter when an interval is void, coarsen first), batches 8 MiB, what is read
 * during a freeze 8 MiB, and Node, its heap and TLS about 35 MiB. Four batches of 1 MiB are also all that one kill can make
 * the agent send again of what is under way.
 */
export const REPLICATION_LIMITS: ReplicationLimits = {
  dirtyMemoryBytesMax: 34 * MIB,
  batchBlocks: MIB / BLOCK_BYTES,
  batchesHeldMax: 4,
  intervalBytesMax: 256 * MIB,
};
