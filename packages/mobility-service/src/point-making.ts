import { hasCode, messageOf } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Randomness } from "@osr/base/randomness";
import type { Scheduler } from "@osr/base/scheduler";
import { GIB } from "@osr/base/units";
import { randomUuid } from "@osr/base/uuid";
import type { HealthError } from "@osr/contracts/agent-protocol";

import { AppPointPace } from "./app-point-pace.ts";
import { Cut, type CutOutcome, type CutPorts } from "./cut.ts";
import type { DiskReplication } from "./disk-replication.ts";
import type { MachineDisk } from "./machine-disk.ts";
import type { MachineDisks } from "./machine-disks.ts";
import { missedHealth } from "./machine-health.ts";
import { MISSED_REASONS, MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { PointIntervals } from "./mobility-service-options.ts";
import { PointScheduler } from "./point-scheduler.ts";
import type { ReplicationSession } from "./replication-session.ts";
import type { Turn } from "./turn.ts";

const POLL_MS = 200;
/** Above this no point is tried: copying goes first. */
const BACKLOG_BYTES_MAX = GIB;

export type PointMakingPorts = Omit<CutPorts, "isAppDue"> & {
  readonly log: Log;
  readonly randomness: Randomness;
  readonly scheduler: Scheduler;
  readonly disks: MachineDisks;
  /** Taken by whoever makes a point or changes the set of disks. */
  readonly setOfDisks: Turn;
  /** What keeps the machine as a whole from having points. */
  readonly trouble: () => HealthError | undefined;
  readonly stopping: AbortSignal;
  readonly pointIntervalSeconds: number;
};

export type MadeCut = CutOutcome & { readonly kind: "made" };

/** Makes the recovery points of a machine, and remembers what came of it, also over sessions. */
export class PointMaking {
  readonly schedule: PointScheduler;
  readonly #ports: PointMakingPorts;
  readonly #cut: Cut;
  readonly #appPoints = new AppPointPace();
  #madeCount = 0;
  #lastCut: MadeCut | undefined;
  #lastMissed: HealthError | undefined;

  constructor(ports: PointMakingPorts) {
    this.#ports = ports;
    this.schedule = new PointScheduler({ intervalSeconds: ports.pointIntervalSeconds });
    const isAppDue = (): boolean => this.#appPoints.isDue(ports.clock.monotonicMs());
    this.#cut = new Cut({ ...ports, isAppDue });
  }

  get madeCount(): number {
    return this.#madeCount;
  }

  get lastCut(): MadeCut | undefined {
    return this.#lastCut;
  }

  /** Why the newest point is missing, until one is made. */
  get lastMissed(): HealthError | undefined {
    return this.#lastMissed;
  }

  setIntervals({ pointSeconds, appPointSeconds }: PointIntervals): void {
    this.schedule.setInterval(pointSeconds, this.#ports.clock.monotonicMs());
    this.#appPoints.setInterval(appPointSeconds);
  }

  /** Makes points of `disks` when they are due, once all of them are copied. Rejects with what ends the session. */
  async run(session: ReplicationSession, disks: readonly MachineDisk[]): Promise<void> {
    const { clock } = this.#ports;
    for (;;) {
      for (const disk of disks) disk.isMember ||= disk.replication.stage === "delta";
      const isCopied = disks.every(({ replication }) => replication.stage === "delta");
      if (isCopied && !this.schedule.isStarted) this.schedule.start(clock.monotonicMs());
      if (clock.monotonicMs() >= this.schedule.dueMs) await this.#point(session, disks);
      await this.#ports.scheduler.sleep(POLL_MS, session.signal);
    }
  }

  async #point(session: ReplicationSession, disks: readonly MachineDisk[]): Promise<void> {
    const reason = this.#obstacle();
    if (reason !== undefined) return this.#missed(reason.code, reason.message);
    using _ = await this.#ports.setOfDisks.take(session.signal);
    try {
      const outcome = await this.#makePoint(session, disks);
      if (outcome.kind === "made") this.#made(outcome);
      else this.#missed(outcome.reason, messageOf(outcome.error ?? ""));
    } catch (error) {
      if (this.#ports.stopping.aborted) throw error;
      const isFenced = hasCode(error, MOBILITY_ERRORS.LOG_FENCED);
      this.#missed(
        isFenced ? MOBILITY_ERRORS.LOG_FENCED.code : MOBILITY_ERRORS.SESSION_LOST.code,
        messageOf(error),
      );
      if (!isFenced) throw error;
    }
  }

  /** Why no point can be tried at the moment. */
  #obstacle(): { readonly code: string; readonly message: string } | undefined {
    const reason = this.#ports.trouble() ?? this.#ports.disks.resync;
    if (reason !== undefined) return reason;
    const late = this.#ports.disks.members.find(
      ({ replication }) => replication.dirtyBytes > BACKLOG_BYTES_MAX,
    );
    if (late === undefined) return undefined;
    return {
      code: MISSED_REASONS.CATCHING_UP.code,
      message: `${late.replication.disk.name} is still being copied`,
    };
  }

  async #makePoint(
    session: ReplicationSession,
    disks: readonly MachineDisk[],
  ): Promise<CutOutcome> {
    const { clock, randomness } = this.#ports;
    using turns = new DisposableStack();
    const members = disks.filter(({ isMember }) => isMember);
    for (const disk of members) turns.use(await disk.turn.take(session.signal));
    const names = {
      groupId: session.granted.groupId,
      slot: this.schedule.takeSlot(clock.unixMs()),
      cutId: randomUuid(randomness),
    };
    const replications = members.map(({ replication }): DiskReplication => replication);
    return await this.#cut.make(replications, names, session.signal);
  }

  #made(outcome: MadeCut): void {
    this.schedule.made(this.#ports.clock.monotonicMs());
    if (outcome.tag.class === "app") this.#appPoints.made(this.#ports.clock.monotonicMs());
    this.#madeCount += 1;
    this.#lastCut = outcome;
    this.#lastMissed = undefined;
    const { tag, frozenMs, heldMs, rounds } = outcome;
    this.#ports.log.info("recovery point made", {
      cutId: tag.cutId,
      slot: tag.slot,
      class: tag.class,
      frozenMs,
      heldMs,
      rounds,
    });
  }

  #missed(reason: string, message: string): void {
    this.schedule.miss(reason, this.#ports.clock.monotonicMs());
    this.#lastMissed = missedHealth(reason, message);
    this.#ports.log.warn("recovery point missed", { reason, detail: message });
  }
}
