/** Why a disk is compared with its log before anything more of it is sent. Also the code of its health error. */
export type ResyncReason =
  | "AGENT_RESTARTED"
  | "MACHINE_REBOOTED"
  | "TRACKING_LOST"
  | "TRACKING_MISMATCH"
  | "DISK_RESIZED"
  | "LOG_REWOUND"
  | "DISK_CHANGED"
  | "RESYNC_REQUESTED";

/** A comparison of a disk that is under way or was the last one. */
export type ResyncProgress = {
  readonly reason: ResyncReason;
  readonly comparedBytes: number;
  /** Blocks that differ from what the storage account holds; they are sent. */
  readonly differingBytes: number;
};
