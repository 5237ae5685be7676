import { readFileSync } from "node:fs";

import { AS_TEXT, type Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";
import {
  type MobilityStatus,
  isFreshStatus,
  statusText,
} from "@osr/service-mobility-service/status-text";

const ERRORS = defineErrors({
  STATUS_MISSING: {
    retryable: true,
    hint: "Start the mobility service (systemctl start osr-mobility-service), or name its status file with --status-file.",
  },
});

/** `osr mobility-service status`: what the service of this machine wrote last. */
export function mobilityServiceStatus(options: { readonly statusFile: string }): Promise<Output> {
  let status: MobilityStatus;
  try {
    status = JSON.parse(readFileSync(options.statusFile, "utf8")) as MobilityStatus;
  } catch (cause) {
    throw new OsrError(ERRORS.STATUS_MISSING, `${options.statusFile} cannot be read`, { cause });
  }
  const text = statusText(status, isFreshStatus(status, Date.now()));
  return Promise.resolve({ ...status, [AS_TEXT]: text });
}
