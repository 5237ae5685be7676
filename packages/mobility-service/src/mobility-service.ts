import { must } from "@osr/base/assert";
import { type ErrorInfo, OsrError, hasCode, isRetryable, messageOf } from "@osr/base/errors";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import type { Service } from "@osr/base/service";
import { MIB, SECOND_MS } from "@osr/base/units";
import {
  HEALTH_ERRORS_MAX,
  type HealthError,
  type HeartbeatReply,
  type PointSummary,
} from "@osr/contracts/agent-protocol";

import { allDone } from "./all-done.ts";
import { BatchMemory } from "./batch-memory.ts";
import { ChangeIntake } from "./change-intake.ts";
import { certificateHealth, clockHealth, freezeHealth } from "./machine-health.ts";
import { cutStatusOf } from "./cut.ts";
import { DirtyMemory } from "./dirty-memory.ts";
import { DiskCopying } from "./disk-copying.ts";
import {
  type MachineDisk,
  agentBytesOf,
  health,
  resyncOf,
  statusOf,
  troubleOf,
} from "./machine-disk.ts";
import { type OpenedKeptState, openKeptState, returnUnanswered } from "./kept-start.ts";
import { MachineDisks, trackedDisk } from "./machine-disks.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { MobilityStatus } from "./mobility-status.ts";
import { Pace } from "./pace.ts";
import { PointMaking } from "./point-making.ts";
import type { ReplicationSession } from "./replication-session.ts";
import { SessionOpener } from "./session-opener.ts";
import { TrackingTrust } from "./tracking-trust.ts";
import { Turn } from "./turn.ts";
import type { MobilityServiceOptions, PointIntervals } from "./mobility-service-options.ts";

const STATUS_MS = SECOND_MS;
/** How often disks are looked for. */
const DISK_WATCH_MS = 5 * SECOND_MS;
/** Disks are compared beside the machine's own work: reading and hashing take no more than this, over all disks. */
const COMPARED_BYTES_PER_SECOND_MAX = 200 * MIB;
const NEW_DISKS = "the disks of the machine have changed";
/** A session that lasted so long is opened again at once. */
const STEADY_SESSION_MS = 10 * SECOND_MS;
const REOPENING: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: 200,
  delayMaxMs: 30 * SECOND_MS,
};

export interface MobilityService extends Service {
  status(): MobilityStatus;
  /** How often points are made from now on. */
  setIntervals(intervals: PointIntervals): void;
  /** Compares all disks with what the storage account holds. */
  requestResync(): void;
}

/**
 * The agent in a protected machine: follows what changes on its disks, sends it to the process server, and makes recovery
 * points. It ends only when it is stopped; whatever is wrong meanwhile is in its status and the heartbeat.
 */
export function createMobilityService(options: MobilityServiceOptions): MobilityService {
  return new MachineReplication(options);
}

class MachineReplication implements MobilityService {
  readonly #options: MobilityServiceOptions;
  readonly #disks: MachineDisks;
  readonly #kept: OpenedKeptState;
  readonly #changes: ChangeIntake;
  readonly #points: PointMaking;
  readonly #copying: DiskCopying;
  readonly #opener: SessionOpener;
  readonly #fileWrites = new Turn();
  /** Taken by whoever makes a point or changes the set of disks. */
  readonly #setOfDisks = new Turn();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #session: ReplicationSession | undefined;
  #isStopped = false;
  #newestPoint: PointSummary | undefined;
  #statusFailed = false;
  /** What the process server said last of itself, of the disks and of the time. */
  #told: Pick<HeartbeatReply, "health" | "bytes"> & { readonly skewMs?: number } = {};

  constructor(options: MobilityServiceOptions) {
    this.#options = options;
    const { clock, machine, agentVersion, limits } = options;
    const { intervalBytesMax } = limits;
    const { startReason } = options;
    const pace = new Pace(COMPARED_BYTES_PER_SECOND_MAX, options);
    // In the order of the disks, so that their places in the list are their disk indexes.
    for (const { disk, eventDevices } of options.disks)
      options.tracker.add(trackedDisk(disk, eventDevices));
    const kept = openKeptState(options);
    const { state } = kept;
    this.#kept = kept;
    const batchMemory = new BatchMemory(limits, state);
    const dirtyMemory = new DirtyMemory(limits.dirtyMemoryBytesMax, state.bitmaps);
    const trust = new TrackingTrust(options);
    this.#changes = new ChangeIntake(options.tracker, {
      trust,
      onDrained: () => state.drained(options.tracker, this.#disks.kept),
    });
    const ports = { clock, pace, dirtyMemory, batchMemory, intervalBytesMax, state };
    this.#disks = new MachineDisks({ ...options, ...ports, changes: this.#changes, trust });
    for (const [index, disk] of options.disks.entries()) {
      const known = { index, ...must(kept.disks[index], "kept") };
      this.#disks.add(disk, { isMember: true, startReason, known });
    }
    returnUnanswered(
      state,
      this.#disks.all.map(({ replication }) => replication),
    );
    this.#opener = new SessionOpener(options, { agentVersion, machine });
    this.#copying = new DiskCopying(options);
    this.#points = new PointMaking({
      ...options,
      changes: this.#changes,
      remainderRuns: state.remainderRuns,
      isSwapCurrent: () => options.diskWatch.isSwapCurrent(),
      holdWrites: () => this.#fileWrites.take(this.#stopping.signal),
      disks: this.#disks,
      setOfDisks: this.#setOfDisks,
      trouble: () => this.#trouble(),
      stopping: this.#stopping.signal,
    });
  }

  run(): Promise<void> {
    this.#running ??= this.#run();
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new DOMException("the mobility service is being stopped", "AbortError"));
    await this.#running;
  }

  setIntervals(intervals: PointIntervals): void {
    this.#points.setIntervals(intervals);
  }

  requestResync(): void {
    for (const { replication } of this.#disks.all) replication.distrust("RESYNC_REQUESTED");
  }

  async #run(): Promise<void> {
    // Before anything is read: what changes from here on is known.
    if (!this.#kept.isResumed) this.#options.tracker.start();
    this.#options.log.info("the state of the agent before", { isResumed: this.#kept.isResumed });
    const signal = this.#stopping.signal;
    const tasks = [this.#drainLoop(), this.#statusLoop(), this.#sessionLoop(), this.#watchLoop()];
    try {
      await Promise.all(tasks);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#stopping.abort();
      await Promise.allSettled(tasks);
      // Nobody tracks any more.
      this.#kept.state.forget();
      await this.#disks.close();
      this.#isStopped = true;
      await this.#writeStatus();
    }
  }

  status(): MobilityStatus {
    const { clock } = this.#options;
    const point = this.#newestPoint;
    const cut = this.#points.lastCut;
    const unixMs = Math.floor(clock.unixMs());
    return {
      state: this.#state(),
      unixMs,
      processServer: this.#options.processServers.current.address,
      disks: this.#disks.all.map((disk) => statusOf(disk, clock.monotonicMs(), this.#told.bytes)),
      ...(point === undefined
        ? {}
        : { newestPoint: point, rpoSeconds: Math.max(0, (unixMs - point.unixMs) / SECOND_MS) }),
      pointsMade: this.#points.madeCount,
      pointsMissed: this.#points.schedule.missedCount,
      missedReasons: Object.fromEntries(this.#points.schedule.missed),
      ...(cut === undefined ? {} : { lastCut: cutStatusOf(cut) }),
      health: [...this.#health(), ...(this.#told.health ?? [])],
    };
  }

  #state(): MobilityStatus["state"] {
    if (this.#isStopped) return "stopped";
    if (this.#trouble() !== undefined) return "critical";
    if (this.#session === undefined) return "connecting";
    if (this.#disks.members.some(({ replication }) => replication.stage === "resync"))
      return "resync";
    return this.#points.schedule.isStarted ? "protected" : "initial";
  }

  #health(): HealthError[] {
    const ofDisks = this.#disks.all.flatMap((disk) => troubleOf(disk) ?? resyncOf(disk) ?? []);
    const list = [...ofDisks, ...(this.#options.standing ?? [])];
    const failure = this.#session === undefined ? this.#opener.failure : this.#session.unreachable;
    const refusal = this.#refusal();
    if (refusal !== undefined) list.push(refusal);
    else if (failure !== undefined)
      list.push(health(this.#sessionTrouble(failure), messageOf(failure)));
    const busy = this.#session?.busy;
    if (busy !== undefined) list.push(health(busy, busy.message));
    if (this.#points.lastMissed !== undefined) list.push(this.#points.lastMissed);
    if (this.#points.lastCut?.scriptError !== undefined)
      list.push(
        health(MOBILITY_ERRORS.APP_SCRIPT_FAILED, messageOf(this.#points.lastCut.scriptError)),
      );
    const { clock, certificate } = this.#options;
    return [
      ...list,
      ...freezeHealth(this.#points.lastCut?.frozenMs),
      ...certificateHealth(certificate?.(), clock.unixMs()),
      ...clockHealth(this.#told.skewMs ?? 0),
    ].slice(0, HEALTH_ERRORS_MAX);
  }

  #sessionTrouble(failure: unknown): ErrorInfo {
    if (isRetryable(failure)) return MOBILITY_ERRORS.PROCESS_SERVER_UNREACHABLE;
    // By its own name: what is to be done about a certificate depends on what is wrong with it.
    return this.#opener.distrust ?? MOBILITY_ERRORS.SESSION_REFUSED;
  }

  /** Why this machine may not replicate at all. */
  #refusal(): HealthError | undefined {
    const refusal = this.#session === undefined ? this.#opener.refusal : undefined;
    if (refusal === undefined) return undefined;
    const isFenced = hasCode(refusal, MOBILITY_ERRORS.LOG_FENCED);
    const info = isFenced ? MOBILITY_ERRORS.LOG_FENCED : MOBILITY_ERRORS.MACHINE_IS_REPLICA;
    return health(info, messageOf(refusal));
  }

  #trouble(): HealthError | undefined {
    return this.#refusal() ?? this.#disks.trouble;
  }

  async #drainLoop(): Promise<void> {
    for (let wasLost = false; ;) {
      const changes = this.#changes.isCheckDue
        ? this.#changes.checkedDrain()
        : this.#changes.drain();
      const isLost = changes === "lost";
      if (isLost && !wasLost) {
        const { code, hint } = MOBILITY_ERRORS.TRACKING_LOST;
        const error = this.#changes.failure;
        this.#options.log.error("events of changes were lost", { code, hint, error });
      }
      wasLost = isLost;
      await this.#sleep(this.#options.tracker.drainEveryMs, this.#stopping.signal);
    }
  }

  async #statusLoop(): Promise<void> {
    for (;;) {
      this.#countMissed();
      this.#watchProcessServer();
      await this.#writeStatus();
      await this.#sleep(STATUS_MS, this.#stopping.signal);
    }
  }

  /** Points that cannot reach the process server are missed while it is away, not only once it is back. */
  #countMissed(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#session === undefined) this.#points.schedule.skip(this.#sessionless().code, nowMs);
    else if (this.#session.unreachable !== undefined)
      this.#points.schedule.skip(MOBILITY_ERRORS.PROCESS_SERVER_UNREACHABLE.code, nowMs);
  }

  /** Why there is no session. */
  #sessionless(): ErrorInfo {
    const { refusal, failure } = this.#opener;
    if (refusal !== undefined) return refusal;
    return isRetryable(failure)
      ? MOBILITY_ERRORS.PROCESS_SERVER_UNREACHABLE
      : MOBILITY_ERRORS.SESSION_LOST;
  }

  /** Gives up a session with a process server that is not to be used any more; while there is none, the opener watches. */
  #watchProcessServer(): void {
    const session = this.#session;
    if (session === undefined) return;
    const { processServers } = this.#options;
    if (session.unreachable === undefined) processServers.reached();
    else processServers.unreached();
    const { address } = processServers.current;
    if (processServers.current === session.processServer) return;
    const message = `the machine moves from ${session.processServer.address} to ${address}`;
    session.lose(new OsrError(MOBILITY_ERRORS.PROCESS_SERVER_MOVED, message));
  }

  async #writeStatus(): Promise<void> {
    using _ = await this.#fileWrites.take(new AbortController().signal);
    try {
      await this.#options.writeStatus(this.status());
      this.#statusFailed = false;
    } catch (error) {
      if (!this.#statusFailed) this.#options.log.warn("cannot write the status", { error });
      this.#statusFailed = true;
    }
  }

  async #sessionLoop(): Promise<void> {
    const { clock, log, randomness } = this.#options;
    const signal = this.#stopping.signal;
    for (let attempt = 1; ; attempt++) {
      // Those of this session: the set may change meanwhile, and then there is a new one.
      const disks = this.#disks.all;
      const session = await this.#opener.open(this.#disks.forSession(), signal);
      const openedMs = clock.monotonicMs();
      log.info("session opened", { epoch: session.epoch });
      try {
        await this.#replicate(session, disks);
      } catch (error) {
        session.lose(error);
      } finally {
        session.lose("it has ended");
        this.#session = undefined;
        this.#told = {};
        await allDone(disks.map(({ replication }) => replication.detach()));
        await this.#disks.closeReplaced();
      }
      signal.throwIfAborted();
      log.warn("session lost", { epoch: session.epoch, error: session.signal.reason });
      if (clock.monotonicMs() - openedMs >= STEADY_SESSION_MS) attempt = 1;
      await this.#sleep(retryDelayMs(REOPENING, attempt + 1, randomness), signal);
    }
  }

  /** Looks for disks that come and go. Waits for a point that is under way, so that it is made. */
  async #watchLoop(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      await this.#sleep(DISK_WATCH_MS, signal);
      const changes = await this.#disks.look(this.#options);
      if (changes === undefined) continue;
      using _ = await this.#setOfDisks.take(signal);
      // A session that is being opened finds out by itself.
      if (this.#disks.change(changes, { isMember: !this.#points.schedule.isStarted }))
        this.#session?.lose(NEW_DISKS);
    }
  }

  /** Runs until the session is lost. */
  async #replicate(session: ReplicationSession, disks: readonly MachineDisk[]): Promise<void> {
    for (const { replication } of disks) {
      const { identity } = replication.disk;
      const granted = session.granted.disks.find((disk) => disk.identity === identity);
      if (granted === undefined)
        throw new OsrError(MOBILITY_ERRORS.SESSION_REFUSED, `no grant for the disk ${identity}`);
      replication.attach(session, granted);
    }
    this.#points.schedule.seenSlot(session.granted.newestSlot);
    this.#session = session;
    if (disks.some((disk) => !this.#disks.has(disk)) || disks.length < this.#disks.all.length)
      return session.lose(NEW_DISKS);
    const tasks = [
      session.heartbeats(
        () => ({
          pointsMissed: this.#points.schedule.missedCount,
          health: this.#health(),
          disks: agentBytesOf(disks),
        }),
        (reply) => this.#heartbeatReply(session, disks, reply),
      ),
      ...disks.map((disk) => this.#copying.run(disk, session)),
      this.#points.run(session, disks),
    ];
    await allDone(
      tasks.map(async (task) => {
        try {
          await task;
        } catch (error) {
          session.lose(error);
          throw error;
        }
      }),
    );
  }

  #heartbeatReply(
    session: ReplicationSession,
    disks: readonly MachineDisk[],
    reply: HeartbeatReply,
  ): void {
    for (const acked of reply.disks)
      for (const granted of session.granted.disks)
        if (granted.diskId === acked.diskId)
          for (const { replication } of disks)
            if (replication.disk.identity === granted.identity) replication.acked(acked);
    const { health, bytes, unixMs } = reply;
    const skewMs = unixMs === undefined ? 0 : this.#options.clock.unixMs() - unixMs;
    this.#told = { health, bytes, skewMs };
    if (reply.newestPoint === undefined) return;
    this.#newestPoint = reply.newestPoint;
    this.#points.schedule.seenSlot(reply.newestPoint.slot);
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return this.#options.scheduler.sleep(ms, signal);
  }
}
