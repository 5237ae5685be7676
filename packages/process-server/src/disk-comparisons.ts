import { OsrError } from "@osr/base/errors";
import { MINUTE_MS, SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { ComparisonReply } from "@osr/contracts/agent-protocol";

import {
  type DiskComparison,
  GRANULES_AT_ONCE_MAX,
  openDiskComparison,
  rethrowReadFailure,
} from "./disk-comparison.ts";
import type { DiskStream } from "./disk-stream.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import { Semaphore } from "./semaphore.ts";
import type { DiskGrant } from "./session-opening.ts";
import type { Session } from "./session-table.ts";

/** Disks whose runs are held for comparison at once; each may take 100 MiB where its log is scattered. */
const COMPARISONS_MAX = 2;
/** Nobody has asked for so long: another disk may take its place. */
const IDLE_MS_MAX = 10 * SECOND_MS;
/** A request waits so long for what is spooled to be uploaded and for the log to be opened. */
const OPENING_WAIT_MS = 20 * SECOND_MS;
/** Nobody has asked for so long: its memory is given back. */
const RELEASE_MS = MINUTE_MS;
const NOT_READY_RETRY_MS = 2 * SECOND_MS;

type Entry = {
  readonly session: Session;
  readonly stream: DiskStream;
  readonly abort: AbortController;
  readonly opening: Promise<DiskComparison>;
  usedMs: number;
  idle?: Disposable;
};

/**
 * The comparisons that are open: one of a disk at a time, for its session. A comparison ends with the session, when the
 * disk's log grows, or when nobody uses it and another disk needs its place.
 */
export class DiskComparisons {
  readonly #context: RoleContext;
  readonly #hashing = new Semaphore(GRANULES_AT_ONCE_MAX);
  readonly #entries = new Map<Uuid, Entry>();
  readonly #closing = new Set<Promise<void>>();

  constructor(context: RoleContext) {
    this.#context = context;
  }

  /**
   * Begins the comparison of a disk, or gives the one that the session has. What it waits for goes on after
   * COMPARISON_NOT_READY. Throws SESSION_REPLACED, LOG_FENCED and what opening the log throws.
   */
  async open(session: Session, grant: DiskGrant, signal: AbortSignal): Promise<ComparisonReply> {
    const { scheduler } = this.#context;
    const { diskId } = grant.stream.keys.log;
    const known = this.#entries.get(diskId);
    if (known !== undefined && !this.#isOf(known, session, grant.stream)) this.#release(diskId);
    const entry = this.#entries.get(diskId) ?? this.#start(session, grant);
    this.#touch(diskId, entry);
    const waited = new AbortController();
    const late = scheduler
      .sleep(OPENING_WAIT_MS, AbortSignal.any([waited.signal, signal]))
      .then(() => undefined);
    late.catch(() => undefined);
    try {
      const comparison = await Promise.race([entry.opening, late]);
      if (comparison === undefined) throw notReady("the log of the disk is still being prepared");
      // The head was fixed after the last upload; a batch may have come since.
      if (!this.#isOf(entry, session, grant.stream, comparison.reply.headSeq)) {
        if (this.#entries.get(diskId) === entry) this.#release(diskId);
        throw gone(diskId);
      }
      return comparison.reply;
    } finally {
      waited.abort();
    }
  }

  /** The comparison that a session began. Throws COMPARISON_GONE. */
  async current(session: Session, stream: DiskStream, headSeq: number): Promise<DiskComparison> {
    const { diskId } = stream.keys.log;
    const entry = this.#entries.get(diskId);
    if (entry === undefined) throw gone(diskId);
    const comparison = await entry.opening;
    if (comparison.reply.headSeq !== headSeq) throw gone(diskId);
    if (!this.#isOf(entry, session, stream, headSeq)) {
      this.#release(diskId);
      throw gone(diskId);
    }
    this.#touch(diskId, entry);
    return comparison;
  }

  async stop(): Promise<void> {
    for (const diskId of this.#entries.keys()) this.#release(diskId);
    await Promise.all(this.#closing);
  }

  #touch(diskId: Uuid, entry: Entry): void {
    const { clock, scheduler } = this.#context;
    entry.usedMs = clock.monotonicMs();
    entry.idle?.[Symbol.dispose]();
    entry.idle = scheduler.after(RELEASE_MS, () => {
      if (this.#entries.get(diskId) === entry) this.#release(diskId);
    });
  }

  #isOf(entry: Entry, session: Session, stream: DiskStream, headSeq?: number): boolean {
    const isSame = entry.session === session && entry.stream === stream;
    return (
      isSame && !entry.abort.signal.aborted && (headSeq === undefined || stream.lastSeq === headSeq)
    );
  }

  #start(session: Session, { stream, sizeBytes }: DiskGrant): Entry {
    this.#makeRoom();
    const { diskId } = stream.keys.log;
    const abort = new AbortController();
    const signal = AbortSignal.any([session.signal, abort.signal]);
    const opening = this.#open(stream, sizeBytes, signal);
    const entry: Entry = { session, stream, abort, opening, usedMs: 0 };
    this.#entries.set(diskId, entry);
    const release = (): void => {
      if (this.#entries.get(diskId) === entry) this.#release(diskId);
    };
    opening.catch(release);
    session.signal.addEventListener("abort", release, { once: true, signal: abort.signal });
    return entry;
  }

  async #open(stream: DiskStream, sizeBytes: number, signal: AbortSignal): Promise<DiskComparison> {
    const { keys } = stream;
    const head = await stream.uploadAll(signal);
    const hashing = this.#hashing;
    const disk = { keys, head, sizeBytes, hashing, signal };
    return await openDiskComparison(this.#context, disk).catch(rethrowReadFailure);
  }

  #makeRoom(): void {
    if (this.#entries.size < COMPARISONS_MAX) return;
    const nowMs = this.#context.clock.monotonicMs();
    for (const [diskId, { usedMs }] of this.#entries)
      if (nowMs - usedMs > IDLE_MS_MAX) return this.#release(diskId);
    throw notReady("other disks are being compared");
  }

  #release(diskId: Uuid): void {
    const entry = this.#entries.get(diskId);
    if (entry === undefined) return;
    this.#entries.delete(diskId);
    entry.idle?.[Symbol.dispose]();
    entry.abort.abort(gone(diskId));
    const closing = entry.opening
      .then((comparison) => comparison[Symbol.asyncDispose]())
      .catch(() => undefined)
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}

function gone(diskId: Uuid): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.COMPARISON_GONE,
    `disk ${diskId} is not being compared at that head of its log`,
  );
}

function notReady(message: string): OsrError {
  return new OsrError(PROCESS_SERVER_ERRORS.COMPARISON_NOT_READY, message, {
    details: { retryAfterMs: NOT_READY_RETRY_MS },
  });
}
