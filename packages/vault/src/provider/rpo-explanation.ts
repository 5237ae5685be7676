import { SECOND_MS } from "@osr/base/units";
import type { MachineReplicationFacts } from "@osr/contracts/replication-facts";

export type RpoHop = {
  readonly hop: "source" | "processServer" | "upload" | "apply";
  readonly pendingBytes: number;
  /** Estimate; absent where nothing is known of the speed. */
  readonly secondsLeft?: number | undefined;
  readonly explanation: string;
};

export type RpoExplanation = {
  /** Since the newest recovery point in the storage account; absent where there is none yet. */
  readonly rpoSeconds?: number | undefined;
  readonly hops: readonly RpoHop[];
  /** Where most of what is behind lies; absent where nothing is. */
  readonly slowestHop?: RpoHop["hop"] | undefined;
  readonly summary: string;
};

/**
 * Why the newest recovery point is as old as it is: how much waits at each hop between the machine's disks and a point that boots. A pure function of what was
 * reported. Points need no applying: the last hop is always empty, and "latest processed" is the newest point.
 */
export function explainRpo(facts: {
  readonly machine: MachineReplicationFacts | undefined;
  readonly uploadBytesPerSecond: number | undefined;
  readonly newestPointUnixMs: number | undefined;
  readonly pointIntervalSeconds: number;
  readonly nowUnixMs: number;
}): RpoExplanation {
  const { machine, uploadBytesPerSecond, newestPointUnixMs, nowUnixMs } = facts;
  const disks = machine?.disks ?? [];
  const dirtyBytes = sum(disks.map((disk) => disk.dirtyBytes));
  const cachedBytes = sum(disks.map((disk) => disk.pendingUploadBytes ?? 0));
  const sourceSeconds = Math.max(0, ...disks.map((disk) => disk.secondsLeft ?? 0));
  const isCopying = disks.some(({ stage }) => stage === "initial" || stage === "resync");
  const hops: readonly RpoHop[] = [
    {
      hop: "source",
      pendingBytes: dirtyBytes,
      ...(sourceSeconds > 0 ? { secondsLeft: sourceSeconds } : {}),
      explanation: isCopying
        ? "The machine is still being copied or compared; points come when that has ended."
        : "Changes on the machine's disks that have not been sent to the process server.",
    },
    {
      hop: "processServer",
      pendingBytes: cachedBytes,
      explanation:
        "Received, encrypted, in the process server's cache, not in the storage account yet.",
    },
    {
      hop: "upload",
      pendingBytes: cachedBytes,
      ...(uploadBytesPerSecond === undefined || uploadBytesPerSecond === 0
        ? {}
        : { secondsLeft: Math.ceil(cachedBytes / uploadBytesPerSecond) }),
      explanation: "What the cache holds, at the speed at which the process server uploads now.",
    },
    {
      hop: "apply",
      pendingBytes: 0,
      secondsLeft: 0,
      explanation: "A recovery point can be booted as soon as it is in the storage account.",
    },
  ];
  const behind = [
    { hop: "source", bytes: dirtyBytes },
    { hop: "upload", bytes: cachedBytes },
  ] as const;
  const [first, second] = behind;
  const slowest = second.bytes > first.bytes ? second : first;
  const slowestHop = slowest.bytes > 0 ? slowest.hop : undefined;
  const rpoSeconds =
    newestPointUnixMs === undefined
      ? undefined
      : Math.max(0, Math.round((nowUnixMs - newestPointUnixMs) / SECOND_MS));
  return {
    ...(rpoSeconds === undefined ? {} : { rpoSeconds }),
    hops,
    ...(slowestHop === undefined ? {} : { slowestHop }),
    summary: summaryOf(rpoSeconds, facts.pointIntervalSeconds, slowestHop, isCopying),
  };
}

function summaryOf(
  rpoSeconds: number | undefined,
  intervalSeconds: number,
  slowestHop: RpoHop["hop"] | undefined,
  isCopying: boolean,
): string {
  if (rpoSeconds === undefined)
    return isCopying
      ? "There is no recovery point yet: the machine is being copied."
      : "There is no recovery point yet.";
  const age = `The newest recovery point is ${rpoSeconds} s old; one is made every ${intervalSeconds} s.`;
  // One interval passes by design before the next point.
  if (rpoSeconds <= 2 * intervalSeconds) return `${age} That is as it should be.`;
  if (isCopying) return `${age} The next one waits for the comparison or copy of a disk.`;
  return slowestHop === undefined
    ? `${age} Nothing is known to be waiting: see the item's health errors.`
    : `${age} Most of what is behind waits at: ${slowestHop}.`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
