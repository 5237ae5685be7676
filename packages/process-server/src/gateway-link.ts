import type { Clock } from "@osr/base/clock";
import { messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import { certificateFacts } from "@osr/certificates/certificate-facts";
import { ENROLMENT_ROUTES } from "@osr/contracts/enrolment";
import type { GatewayFacts } from "@osr/contracts/replication-facts";
import {
  AGENT_STATUS_MS,
  type GatewayAssignment,
  SITE_ROUTES,
  SITE_WAIT_MS,
  gatewayAssignmentShape,
} from "@osr/contracts/site-protocol";
import { keepRenewed } from "@osr/control-link/certificate-renewal";
import type { RoleIdentity } from "@osr/control-link/role-identity";
import { followWishedState } from "@osr/control-link/wished-state";
import type { HttpsClient } from "@osr/https/https-client";

import type { ProcessServerStatus } from "./process-server.ts";

export type GatewayLinkOptions = {
  /** To the configuration server, with the certificate of the process server. */
  readonly client: HttpsClient;
  readonly identity: () => RoleIdentity;
  /** Keeps a renewed identity durably, then puts it to use. */
  readonly onRenewed: (identity: RoleIdentity) => void;
  readonly onAssignment: (assignment: GatewayAssignment) => void;
  readonly facts: () => GatewayFacts;
  readonly statusMs?: number | undefined;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly randomness: Randomness;
  readonly log: Log;
};

/**
 * The link of a process server to its configuration server: takes its assignment, reports, renews its certificate. Where the
 * configuration server is away, everything goes on with the last assignment. Ends with the signal.
 */
export async function keepGatewayLink(
  options: GatewayLinkOptions,
  signal: AbortSignal,
): Promise<void> {
  let revision = 0;
  await Promise.all([
    followWishedState(
      {
        ...options,
        path: SITE_ROUTES.gatewayAssignment,
        waitMs: SITE_WAIT_MS,
        shape: gatewayAssignmentShape,
        have: () => revision,
        onState: (assignment) => {
          options.onAssignment(assignment);
          ({ revision } = assignment);
        },
      },
      signal,
    ),
    report(options, signal),
    keepRenewed({ ...options, path: ENROLMENT_ROUTES.renew }, signal),
  ]);
}

async function report(options: GatewayLinkOptions, signal: AbortSignal): Promise<void> {
  const { client, facts, scheduler, log, statusMs = AGENT_STATUS_MS } = options;
  let isAway = false;
  while (!signal.aborted) {
    const body = Buffer.from(JSON.stringify(facts()));
    try {
      await client.request({ method: "POST", path: SITE_ROUTES.gatewayStatus, body, signal });
      isAway = false;
    } catch (error) {
      if (signal.aborted) return;
      if (!isAway)
        log.warn("the configuration server does not take reports", { error: messageOf(error) });
      isAway = true;
    }
    await scheduler.sleep(statusMs, signal).catch(() => undefined);
  }
}

/** What a process server reports of itself. `load` is of its machine, from 0 to 1000. */
export function gatewayFacts(
  status: ProcessServerStatus,
  about: {
    readonly hostName: string;
    readonly version: string;
    readonly address: GatewayFacts["address"];
    readonly certificatePem: string;
    readonly load: { readonly cpuPermille: number; readonly memoryPermille: number };
  },
): GatewayFacts {
  const { hostName, version, address, certificatePem, load } = about;
  const { uploadBytesPerSecond, machines, cache, health } = status;
  const pending = machines.flatMap(({ disks }) => disks.map((disk) => disk.pendingUploadBytes));
  return {
    hostName,
    version,
    ...(address === undefined ? {} : { address }),
    certificateExpiresUnixMs: certificateFacts(certificatePem).untilUnixMs,
    cacheFreePermille: Math.min(1000, Math.max(0, Math.round(cache.freeShare * 1000))),
    ...load,
    pendingUploadBytes: pending.reduce((sum, bytes) => sum + bytes, 0),
    ...(uploadBytesPerSecond === undefined
      ? {}
      : { uploadBytesPerSecond: Math.round(uploadBytesPerSecond) }),
    protectedMachines: machines.length,
    health: health.map((error) => ({
      ...error,
      message: error.message.slice(0, 1024),
      hint: error.hint.slice(0, 1024),
    })),
  };
}
