import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";
import {
  AGENT_PROTOCOL_VERSION,
  type GrantedDisk,
  type MachineDescription,
  type SessionReply,
  type SessionRequest,
} from "@osr/contracts/agent-protocol";

import type { Admission, DiskAuthority } from "./disk-authority.ts";
import type { DiskStream } from "./disk-stream.ts";
import type { DiskStreams } from "./disk-streams.ts";
import { checkMachine } from "./machine-check.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Session } from "./session-table.ts";

/** Disks of all sessions that are opened at once. */
export const OPENINGS_MAX = 8;

export type DiskGrant = { readonly stream: DiskStream; readonly sizeBytes: number };

/** What a session may write. */
export type SessionGrant = {
  readonly groupId: Uuid;
  readonly disks: ReadonlyMap<Uuid, DiskGrant>;
  readonly machine: MachineDescription;
};

export type SessionOpening = {
  readonly authority: DiskAuthority;
  readonly streams: DiskStreams;
  readonly points: RecoveryPoints;
  readonly openings: Semaphore;
};

/**
 * Checks what the shape of the request cannot, before anything of the machine's last session is touched. Throws
 * INPUT_INVALID, and MACHINE_IS_REPLICA where that session was another machine's.
 */
export function checkSessionRequest(
  request: SessionRequest,
  granted: Pick<SessionGrant, "machine"> | undefined,
): void {
  const identities = new Set(request.disks.map(({ identity }) => identity));
  const message =
    request.protocol !== AGENT_PROTOCOL_VERSION
      ? `protocol must be ${AGENT_PROTOCOL_VERSION}, got ${request.protocol}`
      : identities.size !== request.disks.length
        ? "disks must have different identities"
        : undefined;
  if (message !== undefined) throw new OsrError(PROCESS_SERVER_ERRORS.INPUT_INVALID, message);
  if (granted !== undefined) checkMachine(request.machine, granted.machine);
}

/**
 * Admits a session: the authority says which disks it may write, their streams are opened and handed over. Throws what
 * the authority, the storage account or a stream refuses it with.
 */
export async function openSession(
  opening: SessionOpening,
  session: Session,
  request: SessionRequest,
  signal: AbortSignal,
): Promise<{ readonly grant: SessionGrant; readonly reply: SessionReply }> {
  const { authority, points, openings } = opening;
  const admission = await authority.admit(session.machineId, request, signal);
  const { groupId } = admission;
  await points.openGroup(groupId, admission.groupKey, signal);
  const granted = await Promise.all(
    request.disks.map((disk) =>
      openings.run(() => openDisk(opening, session, { request, disk, admission }, signal)),
    ),
  );
  const disks = new Map(
    granted.map(({ stream, sizeBytes }) => [stream.keys.log.diskId, { stream, sizeBytes }]),
  );
  return {
    grant: { groupId, disks, machine: request.machine },
    reply: {
      groupId,
      newestSlot: points.newestSlot(groupId),
      disks: granted.map(({ reply }) => reply),
    },
  };
}

async function openDisk(
  opening: SessionOpening,
  session: Session,
  toOpen: {
    readonly request: SessionRequest;
    readonly disk: SessionRequest["disks"][number];
    readonly admission: Admission;
  },
  signal: AbortSignal,
): Promise<DiskGrant & { readonly reply: GrantedDisk }> {
  const { request, disk, admission } = toOpen;
  const { machineId } = session;
  const admitted = admission.disks.find(({ identity }) => identity === disk.identity);
  if (admitted === undefined)
    throw new OsrError(
      PROCESS_SERVER_ERRORS.INPUT_INVALID,
      `disk ${disk.identity} is not admitted`,
    );
  session.signal.throwIfAborted();
  const stream = await opening.streams.open({ machineId, request, disk, admitted }, signal);
  const nextInterval = await stream.beginSession(session, admission.groupId);
  const { identity, sizeBytes } = disk;
  const history = stream.hasContent ? { history: { sizeBytes: stream.descriptor.sizeBytes } } : {};
  return { stream, sizeBytes, reply: { identity, nextInterval, ...stream.acked, ...history } };
}
