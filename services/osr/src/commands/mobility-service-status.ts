import { readFileSync } from "node:fs";

import type { Output } from "@osr/cli/output";
import { OsrError, defineErrors } from "@osr/base/errors";

const ERRORS = defineErrors({
  STATUS_MISSING: {
    retryable: true,
    hint: "Start the mobility service (systemctl start osr-mobility-service), or name its status file with --status-file.",
  },
});

/** `osr mobility-service status`: what the service of this machine wrote last. */
export function mobilityServiceStatus(options: { readonly statusFile: string }): Promise<Output> {
  try {
    return Promise.resolve(JSON.parse(readFileSync(options.statusFile, "utf8")) as Output);
  } catch (cause) {
    throw new OsrError(ERRORS.STATUS_MISSING, `${options.statusFile} cannot be read`, { cause });
  }
}
