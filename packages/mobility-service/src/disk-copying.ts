import { hasCode } from "@osr/base/errors";
import type { Log } from "@osr/base/log";
import type { Scheduler } from "@osr/base/scheduler";
import { MIB, SECOND_MS } from "@osr/base/units";

import type { DiskReplication } from "./disk-replication.ts";
import { type MachineDisk, isStopped, troubleOf } from "./machine-disk.ts";
import { MOBILITY_ERRORS } from "./mobility-errors.ts";
import type { ReplicationSession } from "./replication-session.ts";
import { Turn } from "./turn.ts";

const POLL_MS = 200;
/** Below this, changes of a disk wait for the next point, so that a block that changes again is sent once. */
const BACKLOG_BYTES_GOAL = 64 * MIB;
const UNREADABLE_RETRY_MS = 30 * SECOND_MS;

/** Keeps the disks of a machine near their logs between its points. */
export class DiskCopying {
  readonly #ports: { readonly log: Log; readonly scheduler: Scheduler };
  readonly #comparisons = new Turn();

  constructor(ports: { readonly log: Log; readonly scheduler: Scheduler }) {
    this.#ports = ports;
  }

  /**
   * Compares a disk where that is needed, and copies it whenever enough of it is dirty, until it is not replicated any more.
   * Rejects with what ends the session.
   */
  async run(disk: MachineDisk, session: ReplicationSession): Promise<void> {
    const { replication } = disk;
    while (!isStopped(disk)) {
      try {
        if (replication.stage === "resync") await this.#compare(disk, session);
        using _ = await disk.turn.take(session.signal);
        // Distrusted just now.
        if (replication.stage === "resync") continue;
        const isDue =
          replication.stage === "initial" || replication.dirtyBytes > BACKLOG_BYTES_GOAL;
        if (isDue || replication.unreadable !== undefined) await replication.copyRound();
        else await replication.endOldInterval();
      } catch (error) {
        if (!hasCode(error, MOBILITY_ERRORS.LOG_FENCED)) throw error;
      }
      const isUnreadable = replication.unreadable !== undefined;
      await this.#sleep(isUnreadable ? UNREADABLE_RETRY_MS : POLL_MS, session.signal);
    }
    this.#sayStopped(disk);
  }

  /**
   * Compares a disk to its end. One disk of the machine at a time, step by step, so that requests of comparisons never keep
   * those of other disks from a connection, and a cut that waits for the disk learns soon that there can be none.
   */
  async #compare(disk: MachineDisk, session: ReplicationSession): Promise<void> {
    const { log } = this.#ports;
    const { replication, turn } = disk;
    const { name } = replication.disk;
    using _ = await this.#comparisons.take(session.signal);
    log.info("the disk is compared with its log", { name, reason: replication.resync?.reason });
    while (replication.stage === "resync") {
      const isGoingOn = await this.#compareStep(replication, turn, session);
      if (!isGoingOn) await this.#sleep(POLL_MS, session.signal);
    }
    log.info("the disk was compared", { name, ...replication.lastResync });
  }

  async #compareStep(
    replication: DiskReplication,
    turn: Turn,
    { signal }: ReplicationSession,
  ): Promise<boolean> {
    using _ = await turn.take(signal);
    return await replication.resyncStep();
  }

  #sayStopped(disk: MachineDisk): void {
    const trouble = troubleOf(disk);
    this.#ports.log.error("the disk is not replicated any more", { ...trouble });
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return this.#ports.scheduler.sleep(ms, signal);
  }
}
