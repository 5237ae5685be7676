import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";

import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";

/**
 * One session of a machine. States: opening, granted, replaced. It is replaced as soon as a newer one is asked for, and
 * from then on nothing is taken in for it.
 */
export class Session {
  readonly machineId: Uuid;
  readonly epoch: number;
  readonly #replaced = new AbortController();

  constructor(machineId: Uuid, epoch: number) {
    this.machineId = machineId;
    this.epoch = epoch;
  }

  /** Aborted with SESSION_REPLACED. */
  get signal(): AbortSignal {
    return this.#replaced.signal;
  }

  replace(): void {
    this.#replaced.abort(sessionReplaced(this.epoch));
  }
}

type Entry<Grant> = {
  /** Of the newest session, granted or being opened. */
  newest?: Session;
  granted?: { readonly session: Session; readonly grant: Grant };
  /** Highest epoch that may not be used any more. */
  epochFloor: number;
  /** Ends when no opening is under way; openings of a machine run one after the other. */
  opening: Promise<unknown>;
};

/** The sessions of all machines: the newest epoch of each wins. `Grant` is what an opened session was granted. */
export class SessionTable<Grant> {
  readonly #entries = new Map<Uuid, Entry<Grant>>();

  /**
   * Opens a session. Whatever session the machine had is replaced at once, before `open` runs. Throws EPOCH_STALE where
   * the epoch is not above the newest one (details: `newestEpoch`), SESSION_REPLACED where a newer one came meanwhile, and
   * what `open` throws; then the epoch may be used again.
   */
  async open(
    session: Session,
    open: (session: Session) => Promise<Grant>,
  ): Promise<{ readonly session: Session; readonly grant: Grant }> {
    const entry = this.#entryOf(session.machineId);
    const newestEpoch = Math.max(entry.epochFloor, entry.newest?.epoch ?? 0);
    if (session.epoch <= newestEpoch) throw epochStale(session.epoch, newestEpoch);
    return this.#open(entry, session, open);
  }

  async #open(
    entry: Entry<Grant>,
    session: Session,
    open: (session: Session) => Promise<Grant>,
  ): Promise<{ readonly session: Session; readonly grant: Grant }> {
    entry.newest?.replace();
    entry.newest = session;
    const opened = entry.opening.then(async () => {
      session.signal.throwIfAborted();
      return open(session);
    });
    entry.opening = opened.catch(() => undefined);
    try {
      const grant = await opened;
      session.signal.throwIfAborted();
      entry.epochFloor = session.epoch;
      entry.granted = { session, grant };
      return entry.granted;
    } catch (error) {
      if (entry.newest === session) delete entry.newest;
      session.replace();
      throw error;
    }
  }

  /** Epochs up to this one were used before the process server was started. */
  seenEpoch(machineId: Uuid, epoch: number): void {
    const entry = this.#entryOf(machineId);
    entry.epochFloor = Math.max(entry.epochFloor, epoch);
  }

  /**
   * Goes on with a session of an earlier run, where the machine has none in this one. Throws SESSION_REPLACED where it has,
   * or a newer one came meanwhile, and what `resume` throws; then it may be tried again.
   */
  async resume(session: Session, resume: (session: Session) => Promise<Grant>): Promise<void> {
    const entry = this.#entryOf(session.machineId);
    if (entry.newest !== undefined || entry.epochFloor > session.epoch)
      throw sessionReplaced(session.epoch);
    await this.#open(entry, session, resume);
  }

  /** Ends whatever session a machine has: nothing more is taken in for it until it is granted another one. */
  end(machineId: Uuid): void {
    this.#entries.get(machineId)?.newest?.replace();
  }

  /** Forgets what a machine was granted, but for its epoch; false while it opens a session. */
  forget(machineId: Uuid): boolean {
    const entry = this.#entries.get(machineId);
    if (entry === undefined) return true;
    if (entry.newest !== undefined && entry.newest !== entry.granted?.session) return false;
    entry.newest?.replace();
    delete entry.newest;
    delete entry.granted;
    return true;
  }

  /** What the session of `epoch` was granted. Throws SESSION_REPLACED where it is not the newest one, or not known. */
  current(machineId: Uuid, epoch: number): { readonly session: Session; readonly grant: Grant } {
    const granted = this.granted(machineId);
    if (granted === undefined || granted.session.epoch !== epoch) throw sessionReplaced(epoch);
    granted.session.signal.throwIfAborted();
    return granted;
  }

  /** The last session that was granted to a machine, replaced or not. */
  granted(machineId: Uuid): { readonly session: Session; readonly grant: Grant } | undefined {
    return this.#entries.get(machineId)?.granted;
  }

  /** Of every machine that has been granted a session. */
  *grants(): Generator<{ readonly session: Session; readonly grant: Grant }> {
    for (const { granted } of this.#entries.values()) if (granted !== undefined) yield granted;
  }

  #entryOf(machineId: Uuid): Entry<Grant> {
    let entry = this.#entries.get(machineId);
    if (entry === undefined) {
      entry = { epochFloor: 0, opening: Promise.resolve() };
      this.#entries.set(machineId, entry);
    }
    return entry;
  }
}

export function epochStale(epoch: number, newestEpoch: number): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.EPOCH_STALE,
    `epoch ${epoch} is not above ${newestEpoch}`,
    { details: { newestEpoch } },
  );
}

export function sessionReplaced(epoch: number): OsrError {
  return new OsrError(
    PROCESS_SERVER_ERRORS.SESSION_REPLACED,
    `session ${epoch} of this machine is not the newest one, or not known here any more`,
  );
}
