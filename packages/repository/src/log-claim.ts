import type { Clock } from "@osr/base/clock";
import { OsrError, hasCode } from "@osr/base/errors";
import type { Randomness } from "@osr/base/randomness";
import { type Uuid, randomUuid } from "@osr/base/uuid";

import type { ClaimGrant } from "@osr/contracts/claim-grant";
import { checkClaimGrant, grantKeyOf } from "./claim-grant.ts";
import { commitSegment } from "./disk-log.ts";
import { type DataKey, indexKeyOf, indexRootOf } from "./key-schedule.ts";
import { type LogTip, readLogEnd, tipOf } from "./log-end.ts";
import { type LogSegment, openSegment } from "./log-segment.ts";
import { OBJECT_KINDS, type ObjectHeader, checkWritable } from "./object-header.ts";
import type { LogId } from "./object-names.ts";
import { type ObjectStore, bodyOf } from "./object-store.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { SegmentBuilder } from "./segment-builder.ts";
import { NO_HEAD, SEGMENT_FOOTER_BYTES } from "./segment-footer.ts";
import type { Fence, SegmentMeta } from "./segment-meta.ts";

/** Claims that are tried while the old owner goes on to commit. */
const CLAIM_ATTEMPTS_MAX = 8;

type FenceOptions = {
  readonly dataKey: DataKey;
  readonly owner: Uuid;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly signal?: AbortSignal | undefined;
};

export type ClaimOptions = FenceOptions & {
  /** Needed after a `failover` fence, and looked at only there. */
  readonly grant?: ClaimGrant | undefined;
};

/**
 * Makes `owner` the owner of the log: creates a fence with the next generation after the tip, a `claim` where the log is
 * empty, else a `handover`. From then on no commit of an older generation succeeds. Throws LOG_FENCED where another one
 * claims it at the same time, or the machine has failed over and there is no grant; GRANT_INVALID where the grant does not
 * permit this claim; LOG_TAMPERED where somebody without the keys has taken the name (see log-timeline.ts).
 */
export async function claimLog(
  store: ObjectStore,
  log: LogId,
  options: ClaimOptions,
): Promise<LogTip> {
  return await putFence(store, log, options, (last) => {
    const { owner, grant } = options;
    const before = last?.directory.meta.fence;
    const kind = last === undefined ? "claim" : "handover";
    if (before?.kind !== "failover") return { kind, owner };
    if (grant === undefined)
      throw new OsrError(
        REPOSITORY_ERRORS.LOG_FENCED,
        `disk ${log.diskId} has failed over: its log takes no new owner without a grant`,
        { details: { seq: last?.seq, kind: "failover" } },
      );
    const generation = generationAfter(last);
    checkClaimGrant(grant, { log, generation, grantKey: before.grantKey ?? "" });
    return { kind, owner, grant: grant.signature };
  });
}

/**
 * Closes a log for good because its machine fails over: a `failover` fence. From then on no commit of an older generation
 * succeeds, and nobody claims the log without a grant for generation + 1 of what this returns, signed under the same vault
 * key (signClaimGrant). A log that this vault has fenced already is left as it is: safe to call again after any failure.
 * Fence the newest timeline of the disk (currentLog). Throws LOG_FENCED where another vault has fenced it, LOG_TAMPERED
 * where somebody without the keys has taken the name: then its continuation is what is to be fenced.
 */
export async function fenceForFailover(
  store: ObjectStore,
  log: LogId,
  options: FenceOptions & { readonly vaultKey: Buffer },
): Promise<LogTip> {
  const { owner } = options;
  const grantKey = grantKeyOf(options.vaultKey);
  return await putFence(store, log, options, (last) => {
    const before = last?.directory.meta.fence;
    if (before?.kind !== "failover") return { kind: "failover", owner, grantKey };
    if (before.grantKey === grantKey) return undefined;
    throw new OsrError(
      REPOSITORY_ERRORS.LOG_FENCED,
      `another vault has failed disk ${log.diskId} over`,
      { details: { seq: last?.seq, kind: "failover" } },
    );
  });
}

/**
 * Creates the fence that `decide` wants after the last segment, be it of the log itself or of what it branches off; where it
 * wants none, that segment is the answer.
 */
async function putFence(
  store: ObjectStore,
  log: LogId,
  options: FenceOptions,
  decide: (last: LogSegment | undefined) => Fence | undefined,
): Promise<LogTip> {
  const { signal } = options;
  const indexRoot = indexRootOf(options.dataKey);
  for (let attempt = 1; ; attempt++) {
    const { tip, base, takenSeq } = await readLogEnd(store, log, indexRoot, signal);
    const last = tip ?? base;
    if (last !== undefined) checkWritable(last.headerBytes);
    const fence = decide(last);
    if (fence === undefined && last !== undefined) return tipOf(last);
    if (takenSeq !== undefined || fence === undefined) throw taken(log, takenSeq);
    const header = fenceHeader(log, { tip, last }, options);
    const builder = new SegmentBuilder(header, indexKeyOf(indexRoot, header.objectId));
    const end = builder.finish(last?.head ?? NO_HEAD, fenceMeta(last?.directory.meta, fence));
    const footerBytes = end.subarray(end.length - SEGMENT_FOOTER_BYTES);
    const bytes = Buffer.concat([builder.headerBytes, end]);
    try {
      const segment = { header, body: bodyOf(bytes), footerBytes, indexRoot };
      await commitSegment(store, log, segment, signal);
    } catch (error) {
      const isLate = hasCode(error, REPOSITORY_ERRORS.LOG_TAMPERED) && "authentic" in error.details;
      if (!isLate || attempt >= CLAIM_ATTEMPTS_MAX) throw error;
      // The old owner has committed once more before the fence: claim after that segment.
      continue;
    }
    const created = { seq: header.seq, sizeBytes: bytes.length };
    return tipOf(await openSegment(store, log, created, { indexRoot, signal }));
  }
}

function generationAfter(last: LogSegment | undefined): number {
  return (last?.owner.header.generation ?? 0) + 1;
}

function fenceHeader(
  log: LogId,
  { tip, last }: { readonly tip: LogSegment | undefined; readonly last: LogSegment | undefined },
  options: FenceOptions,
): ObjectHeader {
  return {
    kind: OBJECT_KINDS.SEGMENT,
    ...log,
    generation: generationAfter(last),
    seq: (tip?.seq ?? 0) + 1,
    objectId: randomUuid(options.randomness),
    keyVersion: options.dataKey.version,
    createdUnixMs: options.clock.unixMs(),
  };
}

function fenceMeta(before: SegmentMeta | undefined, fence: Fence): SegmentMeta {
  return {
    fence,
    session: before?.session ?? 0,
    interval: before?.interval ?? 0,
    intervalEnded: before?.intervalEnded ?? 0,
  };
}

function taken(log: LogId, seq: number | undefined): OsrError {
  return new OsrError(
    REPOSITORY_ERRORS.LOG_TAMPERED,
    `segment ${seq} of disk ${log.diskId}, timeline ${log.timeline}, is not authentic`,
    { details: { seq } },
  );
}
