import { OsrError } from "@osr/base/errors";
import { type Shape, integer, list, object, optional, text } from "@osr/base/json-shape";
import type { Scheduler } from "@osr/base/scheduler";
import { SECOND_MS } from "@osr/base/units";

import { deviceIdOf } from "./block-nodes.ts";
import { COMPUTE_ERRORS } from "./compute-errors.ts";
import type { MachinePaths } from "./machine-paths.ts";
import { type QmpClient, connectQmp } from "./qmp-client.ts";

/** The control socket serves one client at a time; the others wait so long for their turn. */
const CONTROL_TIMEOUT_MS = 15 * SECOND_MS;
const ITEMS_MAX = 1024;
const word = text(4096);

/** Has a short conversation with a machine's QEMU. */
export async function withControl<T>(
  paths: MachinePaths,
  scheduler: Scheduler,
  talk: (qmp: QmpClient) => Promise<T>,
): Promise<T> {
  using qmp = await connectQmp({
    socketPath: paths.controlSocket,
    scheduler,
    timeoutMs: CONTROL_TIMEOUT_MS,
  });
  return await talk(qmp);
}

const statusShape: Shape<{ status: string }> = object({ status: word });

/** QEMU's run state: `running`, `paused`, `shutdown` (the guest turned itself off), `io-error` … */
export async function queryRunState(qmp: QmpClient): Promise<string> {
  return answered(await qmp.execute("query-status"), statusShape).status;
}

export type BlockJob = {
  readonly id: string;
  readonly status: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly error?: string;
};

const jobsShape = list(
  object({
    id: word,
    status: word,
    "current-progress": integer(0),
    "total-progress": integer(0),
    error: optional(word),
  }),
  ITEMS_MAX,
);

export async function queryJob(qmp: QmpClient, jobId: string): Promise<BlockJob | undefined> {
  const jobs = answered(await qmp.execute("query-jobs"), jobsShape);
  const job = jobs.find(({ id }) => id === jobId);
  return job === undefined
    ? undefined
    : {
        id: job.id,
        status: job.status,
        doneBytes: job["current-progress"],
        totalBytes: job["total-progress"],
        ...(job.error === undefined ? {} : { error: job.error }),
      };
}

export type DeviceState = {
  /** Name of the block node on top of what the device reads. */
  readonly node: string;
  /** `ok`, `failed` or `nospace`. */
  readonly ioStatus: string;
};

const blockShape = list(
  object({
    qdev: optional(word),
    "io-status": optional(word),
    inserted: optional(object({ "node-name": optional(word) })),
  }),
  ITEMS_MAX,
);

/** The state of each disk, by index; undefined for one that QEMU does not have. */
export async function queryDevices(
  qmp: QmpClient,
  diskCount: number,
): Promise<readonly (DeviceState | undefined)[]> {
  const devices = answered(await qmp.execute("query-block"), blockShape);
  return Array.from({ length: diskCount }, (_, index) => {
    const device = devices.find(({ qdev }) => qdev?.split("/").includes(deviceIdOf(index)));
    return device === undefined
      ? undefined
      : {
          node: device.inserted?.["node-name"] ?? "",
          ioStatus: device["io-status"] ?? "ok",
        };
  });
}

function answered<T>(value: unknown, shape: Shape<T>): T {
  try {
    return shape(value, "return");
  } catch (cause) {
    throw new OsrError(COMPUTE_ERRORS.QMP_PROTOCOL, "QEMU answered in an unknown form", { cause });
  }
}
