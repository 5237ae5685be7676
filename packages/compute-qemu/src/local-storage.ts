import { rm } from "node:fs/promises";

import { must } from "@osr/base/assert";
import { OsrError, hasCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import type { MachineSpec, MoveProgress } from "@osr/compute/compute-provider";

import { ensureImage, localBlockNode, localNodeOf, overlayNodeOf } from "./block-nodes.ts";
import { COMPUTE_ERRORS } from "./compute-errors.ts";
import type { MachinePaths } from "./machine-paths.ts";
import { queryDevices, queryJob, queryRunState, withControl } from "./qemu-control.ts";
import type { QmpClient } from "./qmp-client.ts";

/** Progress is reported so often, and an abort is noticed so soon. */
const POLL_MS = 200;
const PIVOT_POLL_MS = 5;
const PIVOT_POLLS_MAX = 12_000;
const CANCEL_POLLS_MAX = 600;

export type LocalMove = {
  readonly spec: MachineSpec;
  readonly paths: MachinePaths;
  readonly diskIndex: number;
  readonly scheduler: Scheduler;
  /** Makes it known, durably, that the disk's content is in its local file from now on. */
  readonly recordLocal: () => Promise<void>;
  /** Aborted where the mirror is to be left as it is, because the machine or this process goes. */
  readonly leaving: AbortSignal;
};

/**
 * Moves one disk of a running machine to local storage by mirroring it behind the guest. Takes up a job that a predecessor
 * has left. Throws MOVE_FAILED, or the reason of `signal` or `leaving`; the machine then runs on as before.
 *
 * Order of writes: the mirror runs with every write of the guest going to both files; once they are equal the machine is
 * paused, the mirror flushed and made the disk, the record written, and the machine goes on. While it is paused both files
 * hold the same, so whichever one a crash leaves in the record is right. Only then is the overlay deleted.
 */
export async function moveDiskToLocal(
  move: LocalMove,
  onProgress: (progress: MoveProgress) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const disk = must(move.spec.disks[move.diskIndex], "the disk exists");
  await startMirror(move);
  for (;;) {
    move.leaving.throwIfAborted();
    if (signal?.aborted) await cancelMirror(move);
    signal?.throwIfAborted();
    const job = await control(move, (qmp) => queryJob(qmp, jobIdOf(move.diskIndex)));
    if (job === undefined || job.status === "concluded") {
      await discardMirror(move);
      throw moveFailed(disk.name, job?.error ?? "the job is gone");
    }
    onProgress({ disk: disk.name, doneBytes: job.doneBytes, totalBytes: job.totalBytes });
    if (job.status === "ready") break;
    await move.scheduler.sleep(POLL_MS);
  }
  await control(move, (qmp) => pivot(move, qmp));
  await deleteOverlay(move);
  onProgress({ disk: disk.name, doneBytes: disk.sizeBytes, totalBytes: disk.sizeBytes });
}

/**
 * Finishes what a predecessor had begun: a machine that it paused for the pivot goes on, and a disk that QEMU has already
 * pivoted is recorded as local.
 */
export async function settlePivots(moves: readonly LocalMove[]): Promise<void> {
  const [first] = moves;
  if (first === undefined) return;
  await control(first, async (qmp) => {
    const isPaused = (await queryRunState(qmp)) === "paused";
    for (const move of moves) {
      const jobId = jobIdOf(move.diskIndex);
      const job = await queryJob(qmp, jobId);
      if (isPaused && job?.status === "ready") await completeMirror(move, qmp);
      else if (await isPivoted(move, qmp)) {
        await move.recordLocal();
        if (job !== undefined) await qmp.execute("job-dismiss", { id: jobId });
      }
    }
    if (isPaused) await qmp.execute("cont");
  });
}

/** Deletes what is left of a disk's overlay once the disk is local. */
export async function deleteOverlay(move: LocalMove): Promise<void> {
  await control(move, (qmp) => deleteNode(qmp, overlayNodeOf(move.diskIndex)));
  await rm(move.paths.overlay(move.diskIndex), { force: true });
}

async function startMirror(move: LocalMove): Promise<void> {
  const { diskIndex, paths, spec } = move;
  const jobId = jobIdOf(diskIndex);
  const isUnderWay = await control(move, async (qmp) => (await queryJob(qmp, jobId)) !== undefined);
  if (isUnderWay) return;
  const disk = must(spec.disks[diskIndex], "the disk exists");
  await discardMirror(move);
  await ensureImage(paths.local(diskIndex), disk.sizeBytes);
  await control(move, async (qmp) => {
    await qmp.execute("blockdev-add", localBlockNode(diskIndex, paths));
    await qmp.execute("blockdev-mirror", {
      "job-id": jobId,
      device: overlayNodeOf(diskIndex),
      target: localNodeOf(diskIndex),
      sync: "full",
      "copy-mode": "write-blocking",
      "auto-dismiss": false,
    });
  });
}

async function pivot(move: LocalMove, qmp: QmpClient): Promise<void> {
  const wasRunning = (await queryRunState(qmp)) === "running";
  if (wasRunning) await qmp.execute("stop");
  try {
    await completeMirror(move, qmp);
  } finally {
    if (wasRunning) await qmp.execute("cont");
  }
}

/** Makes the mirror the disk and records it. The machine is paused, or at least executes nothing. */
async function completeMirror(move: LocalMove, qmp: QmpClient): Promise<void> {
  const disk = must(move.spec.disks[move.diskIndex], "the disk exists");
  const jobId = jobIdOf(move.diskIndex);
  await qmp.execute("job-complete", { id: jobId });
  for (let polls = 0; polls < PIVOT_POLLS_MAX; polls++) {
    const job = await queryJob(qmp, jobId);
    if (job?.status === "concluded") {
      await qmp.execute("job-dismiss", { id: jobId });
      if (!(await isPivoted(move, qmp))) throw moveFailed(disk.name, job.error ?? "not pivoted");
      await move.recordLocal();
      return;
    }
    await move.scheduler.sleep(PIVOT_POLL_MS);
  }
  throw moveFailed(disk.name, "the mirror did not become the disk in time");
}

async function cancelMirror(move: LocalMove): Promise<void> {
  const jobId = jobIdOf(move.diskIndex);
  await control(move, (qmp) => qmp.execute("block-job-cancel", { device: jobId, force: true }));
  for (let polls = 0; polls < CANCEL_POLLS_MAX; polls++) {
    const job = await control(move, (qmp) => queryJob(qmp, jobId));
    if (job === undefined || job.status === "concluded") {
      await discardMirror(move);
      return;
    }
    await move.scheduler.sleep(POLL_MS);
  }
}

/** Removes a mirror that is not the disk: its ended job, its node, its file. */
async function discardMirror(move: LocalMove): Promise<void> {
  const jobId = jobIdOf(move.diskIndex);
  await control(move, async (qmp) => {
    if ((await queryJob(qmp, jobId)) !== undefined) await qmp.execute("job-dismiss", { id: jobId });
    await deleteNode(qmp, localNodeOf(move.diskIndex));
  });
  await rm(move.paths.local(move.diskIndex), { force: true });
}

async function isPivoted(move: LocalMove, qmp: QmpClient): Promise<boolean> {
  const devices = await queryDevices(qmp, move.spec.disks.length);
  return devices[move.diskIndex]?.node === localNodeOf(move.diskIndex);
}

/** QEMU has one class for all its refusals, so that whether the node is there must be asked first. */
async function deleteNode(qmp: QmpClient, node: string): Promise<void> {
  const nodes = (await qmp.execute("query-named-block-nodes", { flat: true })) as {
    "node-name"?: string;
  }[];
  if (nodes.some((one) => one["node-name"] === node))
    await qmp.execute("blockdev-del", { "node-name": node });
}

function jobIdOf(diskIndex: number): string {
  return `move-disk${diskIndex}`;
}

/** A machine that ends during a move takes its control socket with it. */
async function control<T>(move: LocalMove, talk: (qmp: QmpClient) => Promise<T>): Promise<T> {
  try {
    return await withControl(move.paths, move.scheduler, talk);
  } catch (error) {
    if (!hasCode(error, COMPUTE_ERRORS.QMP_UNAVAILABLE)) throw error;
    throw new OsrError(COMPUTE_ERRORS.MOVE_FAILED, "the machine does not answer any more", {
      cause: error,
    });
  }
}

function moveFailed(disk: string, why: string): OsrError {
  return new OsrError(COMPUTE_ERRORS.MOVE_FAILED, `disk ${disk} could not be moved: ${why}`);
}
