import { readFileSync } from "node:fs";

import { OsrError, defineErrors, messageOf } from "@osr/base/errors";
import { SECOND_MS, formatBytes, formatDuration } from "@osr/base/units";
import type { DiskStatus, MobilityStatus } from "@osr/mobility-service/mobility-status";

import { readConfiguration } from "./configuration.ts";

const ERRORS = defineErrors({
  STATUS_MISSING: {
    retryable: true,
    hint: "Start the mobility service (systemctl start osr-mobility-service) and ask again.",
  },
});

/** A status that is older was not written by a service that runs. */
const FRESH_MS_MAX = 10 * SECOND_MS;

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
  const isFresh = Date.now() - status.unixMs < FRESH_MS_MAX;
  process.stdout.write(json ? `${JSON.stringify(status, null, 2)}\n` : textOf(status, isFresh));
  const isWell = status.state === "initial" || status.state === "protected";
  return isFresh && isWell && status.health.length === 0 ? 0 : 1;
}

function textOf(status: MobilityStatus, isFresh: boolean): string {
  const { newestPoint, rpoSeconds } = status;
  const point =
    newestPoint === undefined || rpoSeconds === undefined
      ? "none yet"
      : `${new Date(newestPoint.unixMs).toISOString()} (${newestPoint.class}), ${formatDuration(rpoSeconds * SECOND_MS)} ago`;
  const lines = [
    `state         ${isFresh ? status.state : "not running"}`,
    `sent to       ${status.processServer}`,
    `newest point  ${point}`,
    `points        ${status.pointsMade} made, ${status.pointsMissed} missed`,
    ...status.disks.map(diskLine),
    ...status.health.flatMap(({ code, message, hint }) => [`${code}: ${message}`, `  ${hint}`]),
  ];
  return `${lines.join("\n")}\n`;
}

function diskLine(disk: DiskStatus): string {
  const left =
    disk.secondsLeft === undefined ? "" : `, ${formatDuration(disk.secondsLeft * SECOND_MS)} left`;
  const rate = `${formatBytes(disk.rateBytesPerSecond)}/s`;
  return (
    `disk          ${disk.name} (${disk.identity}), ${formatBytes(disk.sizeBytes)}: ${disk.stage}, ` +
    `${(disk.progress * 100).toFixed(1)} % ${disk.stage === "resync" ? "compared" : "copied"}, ${formatBytes(disk.dirtyBytes)} dirty, ${rate}${left}`
  );
}
