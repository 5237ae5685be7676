import { isoTime } from "@osr/base/platform/iso-time";
import { SECOND_MS, formatBytes, formatDuration } from "@osr/base/units";
import type { DiskStatus, MobilityStatus } from "@osr/mobility-service/mobility-status";

export type { MobilityStatus };

/** A status that is older was not written by a service that runs. */
const FRESH_MS_MAX = 10 * SECOND_MS;

export function isFreshStatus(status: MobilityStatus, nowUnixMs: number): boolean {
  return nowUnixMs - status.unixMs < FRESH_MS_MAX;
}

/** The status for people: the machine, a table of its disks with the bytes at each hop, and what is wrong with its remedy. */
export function statusText(status: MobilityStatus, isFresh: boolean): string {
  const { newestPoint, rpoSeconds, missedReasons } = status;
  const point =
    newestPoint === undefined || rpoSeconds === undefined
      ? "none yet"
      : `${isoTime(newestPoint.unixMs)} (${newestPoint.class}), ${formatDuration(rpoSeconds * SECOND_MS)} ago`;
  const reasons = Object.entries(missedReasons).map(([code, times]) => `${code} ${times}`);
  const missed = `${status.pointsMissed} missed${reasons.length === 0 ? "" : `: ${reasons.join(", ")}`}`;
  const lines = [
    `state         ${isFresh ? status.state : "not running"}`,
    `sent to       ${status.processServer}`,
    `newest point  ${point}`,
    `points        ${status.pointsMade} made, ${missed}`,
    "",
    ...table([HEADINGS, ...status.disks.map((disk) => diskRow(disk, rpoSeconds))]),
    ...status.health.flatMap(({ code, message, hint }) => [
      "",
      `${code}: ${message}`,
      `  remedy: ${hint}`,
    ]),
  ];
  return `${lines.join("\n")}\n`;
}

const HEADINGS: readonly string[] = [
  "disk",
  "size",
  "stage",
  "progress",
  "rate",
  "RPO",
  "dirty",
  "read",
  "sent",
  "spooled",
  "pending",
  "vaulted",
  "identity",
];

function diskRow(disk: DiskStatus, rpoSeconds: number | undefined): readonly string[] {
  const bytes = (count: number | undefined): string =>
    count === undefined ? "?" : formatBytes(count);
  const left =
    disk.secondsLeft === undefined ? "" : `, ${formatDuration(disk.secondsLeft * SECOND_MS)} left`;
  const stage = disk.resync === undefined ? disk.stage : `${disk.stage} (${disk.resync.reason})`;
  return [
    disk.name,
    formatBytes(disk.sizeBytes),
    stage,
    `${(disk.progress * 100).toFixed(1)} %${left}`,
    `${formatBytes(disk.rateBytesPerSecond)}/s`,
    rpoSeconds === undefined ? "none" : formatDuration(rpoSeconds * SECOND_MS),
    formatBytes(disk.dirtyBytes),
    formatBytes(disk.readBytes),
    formatBytes(disk.sentBytes),
    bytes(disk.spooledBytes),
    bytes(disk.pendingUploadBytes),
    bytes(disk.vaultedBytes),
    disk.identity,
  ];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = HEADINGS.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
