/** A disk of the machine: what it held while it was frozen, and what the repository gives back. */
export type DiskEvidence = {
  readonly name: string;
  readonly frozenSha256: string;
  readonly materialisedSha256: string;
};

/** What a run of the main job proves; every number was measured in it. */
export type Evidence = {
  /** Commits that the database's clients had acknowledged before the tag. */
  readonly acknowledgedRows: number;
  /** Of them, those that the failed-over machine does not have. */
  readonly missingRows: number;
  readonly rowsAfterFailover: number;
  /** What pg_amcheck says on the failed-over machine: `clean`, or its findings. */
  readonly amcheck: string;
  readonly disks: readonly DiskEvidence[];
  /** From the begin of the freeze to the proof of the quiet window. */
  readonly frozenMs: number;
  /** How long the test hook held the thaw to take its reference. */
  readonly heldMs: number;
  readonly bytesRead: number;
  readonly bytesSent: number;
  /** Of all objects in the storage account. */
  readonly bytesStored: number;
  /** From the request of the failover to the machine's first HTTP answer. */
  readonly secondsToFirstAnswer: number;
  /** The source ran on: same boot, and more rows than the failed-over machine has. */
  readonly sourceKeptRunning: boolean;
  readonly totalSeconds: number;
};

/** What speaks against the run; empty where it holds. */
export function objections(evidence: Evidence): readonly string[] {
  const { acknowledgedRows, missingRows, rowsAfterFailover, amcheck, disks } = evidence;
  return [
    acknowledgedRows > 0 ? [] : ["no commit was acknowledged before the tag"],
    missingRows === 0 ? [] : [`${missingRows} acknowledged rows are missing`],
    rowsAfterFailover >= acknowledgedRows ? [] : ["fewer rows than were acknowledged"],
    amcheck === "clean" ? [] : [`pg_amcheck: ${amcheck}`],
    disks.length === 2 ? [] : [`${disks.length} disks were compared instead of 2`],
    disks
      .filter((disk) => disk.frozenSha256 !== disk.materialisedSha256)
      .map((disk) => `disk ${disk.name} differs from what was frozen`),
    evidence.sourceKeptRunning ? [] : ["the source did not keep running"],
  ].flat();
}
