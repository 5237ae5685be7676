import { OsrError, hasCode, messageOf } from "@osr/base/errors";
import { type RetryPolicy, retryDelayMs } from "@osr/base/retry";
import { SECOND_MS } from "@osr/base/units";
import type { Uuid } from "@osr/base/uuid";
import type { PointSummary } from "@osr/contracts/agent-protocol";
import type { Tag } from "@osr/contracts/tag";
import {
  type RecoveryPoint,
  type TagPosition,
  createRecoveryPoint,
  recoveryPointOf,
} from "@osr/repository/recovery-point";
import { REPOSITORY_ERRORS } from "@osr/repository/repository-errors";

import { readNewestPoints, summaryOf } from "./newest-points.ts";
import { PendingPoints } from "./pending-points.ts";
import { PROCESS_SERVER_ERRORS } from "./process-server-errors.ts";
import type { RoleContext } from "./role-context.ts";
import { watched } from "./upload-watch.ts";

/** Tags of one group that wait for some of their disks; the oldest are given up. */
const PENDING_TAGS_MAX = 64;

const CREATE_RETRY: RetryPolicy = {
  attemptsMax: Infinity,
  delayFirstMs: SECOND_MS / 4,
  delayMaxMs: 30 * SECOND_MS,
};

type Pending = { readonly tag: Tag; readonly positions: Map<Uuid, TagPosition> };

type Group = {
  readonly groupId: Uuid;
  readonly groupKey: Buffer;
  /** Newest slot that any tag or point has. */
  newestSlot: number;
  /** Newest slot that has a point. */
  createdSlot: number;
  /** The newest one that is offered. */
  newest: RecoveryPoint | undefined;
  /** Why the newest point that could not be made never will be; until one is made. */
  refusal: OsrError | undefined;
  readonly pending: Map<number, Pending>;
};

/**
 * Makes recovery points. A disk's tag is noted durably when its segment is in the log; when all disks of the tag are
 * there, the point is created: it is a pure function of the tags, so that doing it again, here or elsewhere, gives the
 * same object.
 */
export class RecoveryPoints {
  readonly #context: RoleContext;
  readonly #stored: PendingPoints;
  readonly #groups = new Map<Uuid, Group>();
  readonly #creating = new Set<Promise<void>>();
  readonly #stop = new AbortController();

  constructor(context: RoleContext) {
    this.#context = context;
    this.#stored = new PendingPoints(context.spoolFolder);
  }

  /** Learns what points and waiting tags a group has. Does nothing where the group is known. */
  async openGroup(groupId: Uuid, groupKey: Buffer, signal: AbortSignal): Promise<void> {
    if (this.#groups.has(groupId)) return;
    const { store, vaultId } = this.#context;
    const newest = await readNewestPoints(store, { vaultId, groupId, groupKey }, signal);
    const stored = await this.#stored.list(groupId);
    if (this.#groups.has(groupId)) return;
    const group: Group = {
      groupId,
      groupKey,
      newestSlot: newest.slot,
      createdSlot: newest.slot,
      newest: newest.offered,
      refusal: undefined,
      pending: new Map(),
    };
    this.#groups.set(groupId, group);
    for (const { tag, position } of stored) {
      if (tag.slot > group.createdSlot) this.#note(group, tag, position);
      else await this.#stored.remove(tag);
    }
  }

  /** A tag with this slot is on its way. */
  noteSlot(groupId: Uuid, slot: number): void {
    const group = this.#groups.get(groupId);
    if (group !== undefined) group.newestSlot = Math.max(group.newestSlot, slot);
  }

  /** Newest slot of points and of tags on their way; -1 where there is none. */
  newestSlot(groupId: Uuid): number {
    return this.#groups.get(groupId)?.newestSlot ?? -1;
  }

  /** Why points were not made although the logs prove them: somebody else has their names. */
  get refusals(): readonly OsrError[] {
    return [...this.#groups.values()].flatMap(({ refusal }) => refusal ?? []);
  }

  /** True where the point of a tag is made, or a newer one is. */
  isMade({ groupId, slot }: Tag): boolean {
    return slot <= (this.#groups.get(groupId)?.createdSlot ?? -1);
  }

  /** The newest point that is offered. */
  newestPoint(groupId: Uuid): PointSummary | undefined {
    const newest = this.#groups.get(groupId)?.newest;
    return newest === undefined ? undefined : summaryOf(newest);
  }

  /** How large a disk is in that point; undefined where it is not in there, or the point does not say. */
  sizeBytesOf(groupId: Uuid, diskId: Uuid): number | undefined {
    const newest = this.#groups.get(groupId)?.newest;
    return newest?.disks.find((disk) => disk.diskId === diskId)?.sizeBytes;
  }

  /**
   * The segment that ends with the tag of a disk is in the log. Durable when it resolves, unless the spool cannot be written:
   * then the segment must not wait for it, since its going makes room. What a crash could lose so is a point that whoever
   * claims the logs, or the vault before a failover, still makes of them.
   */
  async vaulted(tag: Tag, position: TagPosition): Promise<void> {
    const group = this.#groups.get(tag.groupId);
    if (group !== undefined && tag.slot <= group.createdSlot) return;
    await this.#stored.add({ tag, position }).catch((error: unknown) => {
      const { groupId, slot } = tag;
      this.#context.log.warn("a tag is not noted in the spool", { groupId, slot, error });
    });
    if (group !== undefined) this.#note(group, tag, position);
  }

  async stop(): Promise<void> {
    this.#stop.abort(new OsrError(PROCESS_SERVER_ERRORS.STOPPING, "the process server stops"));
    await Promise.all(this.#creating);
  }

  /** Of one disk, the first position of a tag counts: a batch that was sent again may have put the tag in twice. */
  #note(group: Group, tag: Tag, position: TagPosition): void {
    group.newestSlot = Math.max(group.newestSlot, tag.slot);
    let pending = group.pending.get(tag.slot);
    if (pending?.tag.cutId !== tag.cutId) {
      pending = { tag, positions: new Map() };
      group.pending.set(tag.slot, pending);
    }
    if (!pending.positions.has(position.diskId)) pending.positions.set(position.diskId, position);
    this.#limit(group);
    if (!tag.disks.every((diskId) => pending.positions.has(diskId))) return;
    const creating: Promise<void> = this.#create(group, pending).finally(() =>
      this.#creating.delete(creating),
    );
    this.#creating.add(creating);
  }

  #limit(group: Group): void {
    if (group.pending.size <= PENDING_TAGS_MAX) return;
    const oldest = group.pending.get(Math.min(...group.pending.keys()));
    if (oldest !== undefined) this.#forget(group, oldest);
  }

  async #create(group: Group, { tag, positions }: Pending): Promise<void> {
    const { store, vaultId, scheduler, randomness, log } = this.#context;
    const { signal } = this.#stop;
    const point = recoveryPointOf(tag, [...positions.values()], group.groupKey);
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await watched(scheduler, signal, (watch) =>
          createRecoveryPoint(store, vaultId, point, watch.signal),
        );
        this.#created(group, point, tag);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const { groupId, slot } = tag;
        log.warn("a recovery point was not made", { groupId, slot, error: messageOf(error) });
        if (
          hasCode(error, REPOSITORY_ERRORS.SLOT_TAKEN) ||
          hasCode(error, REPOSITORY_ERRORS.POINT_INVALID)
        ) {
          group.refusal = error;
          return this.#forget(group, { tag });
        }
      }
      await scheduler
        .sleep(retryDelayMs(CREATE_RETRY, attempt + 1, randomness), signal)
        .catch(() => undefined);
    }
  }

  /** Older tags that still wait can never become complete: each disk's log is in order. */
  #created(group: Group, point: RecoveryPoint, { groupId, slot }: Tag): void {
    group.createdSlot = Math.max(group.createdSlot, slot);
    group.refusal = undefined;
    const isNewest = slot > (group.newest?.slot ?? -1);
    if (point.class !== "fuzzy" && isNewest) group.newest = point;
    this.#context.log.info("recovery point", { groupId, slot, class: point.class });
    for (const pending of group.pending.values())
      if (pending.tag.slot <= slot) this.#forget(group, pending);
  }

  #forget(group: Group, { tag }: { readonly tag: Tag }): void {
    group.pending.delete(tag.slot);
    const removing: Promise<void> = this.#stored
      .remove(tag)
      .catch(() => undefined)
      .finally(() => this.#creating.delete(removing));
    this.#creating.add(removing);
  }
}
