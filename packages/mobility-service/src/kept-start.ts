import { must } from "@osr/base/assert";
import type { ChangeTracker } from "@osr/block-device/change-tracker";
import type { ProtectableDisk } from "@osr/block-device/protected-disk";

import type { DiskReplication } from "./disk-replication.ts";
import type { KeptDisk } from "./kept-disk.ts";
import { type KeptMemory, heapMemory } from "./kept-memory.ts";
import { KeptState } from "./kept-state.ts";
import type { ReplicationLimits } from "./replication-limits.ts";

export type KeptOptions = {
  readonly memory: KeptMemory;
  /** What must be the same for a successor, such as the boot. */
  readonly label: string;
};

export type OpenedKeptState = {
  readonly state: KeptState;
  /** True where the tracker goes on with what an earlier process left; else it is to be started. */
  readonly isResumed: boolean;
  /** In the order of the tracker's disk indexes. */
  readonly disks: readonly { readonly kept: KeptDisk; readonly isResumed: boolean }[];
};

/**
 * Takes over what an agent of this boot left that was killed, where every change since is known: the tracker can go on where
 * it had read to. Else all begins anew.
 */
export function openKeptState(options: {
  readonly kept?: KeptOptions | undefined;
  readonly limits: ReplicationLimits;
  readonly tracker: ChangeTracker;
  readonly disks: readonly { readonly disk: ProtectableDisk }[];
}): OpenedKeptState {
  const { limits, tracker } = options;
  const kept = options.kept ?? { memory: heapMemory(KeptState.bytes(limits)), label: "" };
  const disks = options.disks.map(({ disk }) => disk);
  const left = KeptState.find(kept.memory, limits, kept.label);
  const known = disks.map((disk) => left?.diskOf(disk));
  const isResumed = left?.resume(tracker, known) === true;
  const state = isResumed ? must(left, "left") : KeptState.create(kept.memory, limits, kept.label);
  const opened = disks.map((disk, index) => {
    const ofDisk = isResumed ? known[index] : undefined;
    return { kept: ofDisk ?? state.newDisk(disk), isResumed: ofDisk !== undefined };
  });
  state.forgetDisksBut(new Set(opened.map((disk) => disk.kept)));
  return { state, isResumed, disks: opened };
}

/** Makes dirty again what an earlier process had taken and nobody acknowledged. */
export function returnUnanswered(state: KeptState, disks: readonly DiskReplication[]): void {
  for (const runs of [...state.batchRuns, state.remainderRuns]) {
    for (const disk of disks) disk.returnRuns(runs);
    runs.clear();
  }
}
