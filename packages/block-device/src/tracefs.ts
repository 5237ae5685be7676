import fs from "node:fs";

import { OsrError, messageOf } from "@osr/base/errors";

import { BLOCK_DEVICE_ERRORS } from "./block-device-errors.ts";
import { mountKernelFileSystem } from "./kernel-file-system.ts";

const TRACEFS = "/sys/kernel/tracing";

/** The folder of tracefs; mounts it where it is not mounted yet. Throws TRACEFS_UNAVAILABLE with the reason. */
export function mountedTracefs(): string {
  if (!fs.existsSync(`${TRACEFS}/instances`)) {
    try {
      mountKernelFileSystem("tracefs", TRACEFS);
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
