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
import type { LastRecord } from "./last-record.ts";
import { checkMachine } from "./machine-check.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Session } from "./session-table.ts";
import { spoolError } from "./spool-error.ts";
import type { StoredSessions } from "./stored-sessions.ts";

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
  readonly stored: StoredSessions;
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

type OpenedSession = { readonly grant: SessionGrant; readonly reply: SessionReply };

/**
 * Admits a session: the authority says which disks it may write, their streams are opened and handed over, and it is
 * noted for after a restart, all before it is granted. Throws what the authority, the storage account, a stream or the
 * spool refuses it with.
 */
export async function openSession(
  opening: SessionOpening,
  session: Session,
  request: SessionRequest,
  signal: AbortSignal,
): Promise<OpenedSession> {
  const opened = await openStreams(opening, session, request, { isNew: true, signal });
  // Its streams are open and upload: where there is no room for the note now, there will be.
  await opening.stored.write(session.machineId, request).catch((cause: unknown) => {
    throw spoolError(cause);
  });
  return opened;
}

/**
 * Goes on with a session that was granted before the process server was started: what it was acknowledged is in the spool
 * or in the log. Throws SESSION_REPLACED where it is not, as after the loss of the spool or the claim of another owner.
 */
export async function resumeSession(
  opening: SessionOpening,
  session: Session,
  request: SessionRequest,
  signal: AbortSignal,
): Promise<SessionGrant> {
  const { grant } = await openStreams(opening, session, request, { isNew: false, signal });
  return grant;
}

type HowToOpen = { readonly isNew: boolean; readonly signal: AbortSignal };

async function openStreams(
  opening: SessionOpening,
  session: Session,
  request: SessionRequest,
  how: HowToOpen,
): Promise<OpenedSession> {
  const { signal } = how;
  const { authority, points, openings } = opening;
  const admission = await authority.admit(session.machineId, request, signal);
  const { groupId } = admission;
  await points.openGroup(groupId, admission.groupKey, signal);
  const granted = await Promise.all(
    request.disks.map((disk) =>
      openings.run(() => openDisk(opening, session, { request, disk, admission }, how)),
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
  { isNew, signal }: HowToOpen,
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
  const toOpenNow = { machineId, request, disk, admitted, mayClaim: isNew };
  const stream = await opening.streams.open(toOpenNow, signal);
  const { nextInterval, last } = isNew
    ? await stream.beginSession(session, admission.groupId)
    : await stream.resumeSession(session, admission.groupId);
  const { identity, sizeBytes } = disk;
  const { diskId } = stream.keys.log;
  // The descriptor is that of the enrolment: the disk may have grown since.
  const sizeBefore =
    opening.points.sizeBytesOf(admission.groupId, diskId) ?? stream.descriptor.sizeBytes;
  const reply = {
    identity,
    nextInterval,
    ...stream.acked,
    ...(stream.hasContent ? { history: { sizeBytes: sizeBefore } } : {}),
    ...(last === undefined ? {} : { last: lastRecordNamed(last) }),
  };
  return { stream, sizeBytes, reply };
}

function lastRecordNamed({ session, interval, recordNo }: LastRecord): GrantedDisk["last"] {
  return { session, interval, recordNo };
}
