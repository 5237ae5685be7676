import { rm } from "node:fs/promises";

import { must } from "@osr/base/assert";
import { OsrError, hasCode } from "@osr/base/errors";
import type { Scheduler } from "@osr/base/scheduler";
import { MIB, MINUTE_MS } from "@osr/base/units";
import type { MachineSpec, MoveProgress } from "@osr/compute/compute-provider";

import { ensureImage, localBlockNode, localNodeOf, overlayNodeOf } from "./block-nodes.ts";
import { COMPUTE_ERRORS } from "./compute-errors.ts";
import type { MachinePaths } from "./machine-paths.ts";
import { queryDevices, queryJob, queryRunState, withControl } from "./qemu-control.ts";
import type { QmpClient } from "./qmp-client.ts";

/** Progress is reported so often, and an abort is noticed so soon. */
const POLL_MS = 200;
const CANCEL_POLLS_MAX = 600;
/** The machine is paused while the rest is copied: it is waited so long for the rest to be so small. */
const REST_BYTES_MAX = 32 * MIB;
const REST_POLLS_MAX = 150;
const PIVOT_POLL_MS = 5;
const PIVOT_POLLS_MAX = 12_000;
const PIVOT_TIMEOUT_MS = MINUTE_MS;

/** States of a mirror that can become the disk, or is about to. */
const COMPLETING = ["ready", "waiting", "pending"];

export type LocalMove = {
  readonly spec: MachineSpec;
  readonly paths: MachinePaths;
  readonly diskIndex: number;
  readonly scheduler: Scheduler;
  /** Makes it known, durably, that the disk's content is in its local file from now on. */
  readonly recordLocal: () => Promise<void>;
  /** Runs a task while nobody starts, stops or destroys the machine. */
  readonly exclusively: (task: () => Promise<void>) => Promise<void>;
  /** Aborted where the mirror is to be left as it is, because the machine or this process goes. */
  readonly leaving: AbortSignal;
};

/**
 * Moves one disk of a running machine to local storage by mirroring it behind the guest. Takes up a job that a predecessor
 * has left. Throws MOVE_FAILED, or the reason of `signal` or `leaving`; the machine then runs on as before.
 *
 * Order of writes: the mirror follows the guest's writes; when little is left the machine is paused, the rest copied, the
 * mirror flushed and made the disk, the record written, and the machine goes on. While it is paused both files hold the
 * same, so whichever one a crash leaves in the record is right. Only then is the overlay deleted. The mirror's mode
 * `write-blocking` would have nothing left to copy, but QEMU 7.2 corrupts its memory when such a mirror is cancelled under
 * writes (3 times in 190 cancels, against none in 212 in the mode used here).
 */
export async function moveDiskToLocal(
  move: LocalMove,
  onProgress: (progress: MoveProgress) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const disk = must(move.spec.disks[move.diskIndex], "the disk exists");
  await startMirror(move);
  let restPolls = 0;
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
    if (job.status === "ready") {
      const isRestSmall = job.totalBytes - job.doneBytes <= REST_BYTES_MAX;
      if (isRestSmall || ++restPolls > REST_POLLS_MAX) break;
    }
    await move.scheduler.sleep(POLL_MS);
  }
  await move.exclusively(() => control(move, (qmp) => pivot(move, qmp)));
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
      if (isPaused && COMPLETING.includes(job?.status ?? "")) await completeMirror(move, qmp);
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
      "copy-mode": "background",
      "auto-dismiss": false,
    });
  });
}

/** Where this throws before the mirror has ended, the machine stays paused: nobody knows which file is the disk. */
async function pivot(move: LocalMove, qmp: QmpClient): Promise<void> {
  const wasRunning = (await queryRunState(qmp)) === "running";
  if (wasRunning) await qmp.execute("stop", {}, PIVOT_TIMEOUT_MS);
  const error = await completeMirror(move, qmp);
  if (wasRunning) await qmp.execute("cont");
  if (error === undefined) return;
  await discardMirror(move, qmp);
  throw moveFailed(must(move.spec.disks[move.diskIndex], "the disk exists").name, error);
}

/**
 * Makes the mirror the disk and records it, while the machine is paused or at least executes nothing. A mirror that cannot
 * be completed in time is cancelled, and the reason returned.
 */
async function completeMirror(move: LocalMove, qmp: QmpClient): Promise<string | undefined> {
  const jobId = jobIdOf(move.diskIndex);
  // Refused where a predecessor has asked for the same: how the job goes on says all.
  await qmp.execute("job-complete", { id: jobId }).catch((error: unknown) => {
    if (!hasCode(error, COMPUTE_ERRORS.QMP_REFUSED)) throw error;
  });
  for (let polls = 0; polls < 2 * PIVOT_POLLS_MAX; polls++) {
    const job = await queryJob(qmp, jobId);
    if (job === undefined || job.status === "concluded") {
      const isLocal = await isPivoted(move, qmp);
      if (isLocal) await move.recordLocal();
      if (job !== undefined) await qmp.execute("job-dismiss", { id: jobId });
      return isLocal ? undefined : (job?.error ?? "the mirror did not become the disk");
    }
    if (polls === PIVOT_POLLS_MAX)
      await qmp.execute("block-job-cancel", { device: jobId, force: true });
    await move.scheduler.sleep(PIVOT_POLL_MS);
  }
  throw moveFailed(jobId, "the mirror neither becomes the disk nor ends; the machine is paused");
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
async function discardMirror(move: LocalMove, conversation?: QmpClient): Promise<void> {
  const jobId = jobIdOf(move.diskIndex);
  const discard = async (qmp: QmpClient): Promise<void> => {
    if ((await queryJob(qmp, jobId)) !== undefined) await qmp.execute("job-dismiss", { id: jobId });
    await deleteNode(qmp, localNodeOf(move.diskIndex));
  };
  await (conversation === undefined ? control(move, discard) : discard(conversation));
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
