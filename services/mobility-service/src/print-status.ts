import { readFileSync } from "node:fs";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import type { MobilityStatus } from "@osr/mobility-service/mobility-status";

import { readConfiguration } from "./configuration.ts";
import { isFreshStatus, statusText } from "./status-text.ts";

const ERRORS = defineErrors({
  STATUS_MISSING: {
    retryable: true,
    hint: "Start the mobility service (systemctl start osr-mobility-service) and ask again.",
  },
});

/** Prints what the service wrote last. Exit code 0 where it runs and nothing is wrong, else 1. */
export function printStatus(configurationFile: string, json: boolean): number {
  const { statusFile } = readConfiguration(configurationFile);
  let status: MobilityStatus;
  try {
    status = JSON.parse(readFileSync(statusFile, "utf8")) as MobilityStatus;
  } catch (cause) {
    throw new OsrError(ERRORS.STATUS_MISSING, `${statusFile} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
  const isFresh = isFreshStatus(status, Date.now());
  process.stdout.write(json ? `${JSON.stringify(status, null, 2)}\n` : statusText(status, isFresh));
  const isWell = status.state === "initial" || status.state === "protected";
  return isFresh && isWell && status.health.length === 0 ? 0 : 1;
}
