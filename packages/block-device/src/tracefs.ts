import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { OsrError, messageOf } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";

const TRACEFS = "/sys/kernel/tracing";
const MOUNT_LIMIT_MS = 10_000;

/** The folder of tracefs; mounts it where it is not mounted yet. Throws TRACEFS_UNAVAILABLE with the reason. */
export function mountedTracefs(): string {
  if (!fs.existsSync(`${TRACEFS}/instances`)) {
    try {
      execFileSync("mount", ["-t", "tracefs", "tracefs", TRACEFS], {
        stdio: ["ignore", "ignore", "pipe"],
        timeout: MOUNT_LIMIT_MS,
      });
    } catch (cause) {
      throw new OsrError(
        BLOCK_DEVICE_ERRORS.TRACEFS_UNAVAILABLE,
        `tracefs cannot be mounted: ${messageOf(cause)}`,
        { cause },
      );
    }
  }
  if (!fs.existsSync(`${TRACEFS}/events/block/block_rq_complete/format`))
    throw new OsrError(
      BLOCK_DEVICE_ERRORS.TRACEFS_UNAVAILABLE,
      "this kernel has no event block_rq_complete, or this process may not see it",
    );
  return TRACEFS;
}
