import { OsrError } from "@osr/base/errors";
import type { Uuid } from "@osr/base/uuid";

import {
  DESCRIPTOR_BYTES_MAX,
  type TimelineParent,
  decodeDiskDescriptor,
} from "./disk-descriptor.ts";
import { type DataKey, groupKeyOf, indexRootOf } from "./key-schedule.ts";
import { checkLink } from "./log-segment.ts";
import {
  type ParsedName,
  parseObjectName,
  parseSealedName,
  sealedStatePrefix,
  vaultPrefix,
} from "./object-names.ts";
import { type ObjectHead, type ObjectStore, listAll } from "./object-store.ts";
import { checkPoint } from "./point-check.ts";
import { REPOSITORY_ERRORS } from "./repository-errors.ts";
import { SealedCheck } from "./sealed-check.ts";
import { type CheckedSegment, checkSegment } from "./segment-check.ts";
import { NO_HEAD } from "./segment-footer.ts";
import { readSmallObject } from "./small-object.ts";
import { WRAPPED_KEY_BYTES_MAX, unwrapDataKey } from "./wrapped-key.ts";

/** Something that is wrong, or how far the check is. */
export type CheckEvent =
  | {
      readonly kind: "finding";
      /** A stable code of REPOSITORY_ERRORS or of the store. */
      readonly code: string;
      /** Name of the object. */
      readonly object: string;
      readonly message: string;
      readonly hint: string;
    }
  | {
      readonly kind: "progress";
      readonly objectsDone: number;
      readonly objectsTotal: number;
      readonly bytesDone: number;
      readonly bytesTotal: number;
    };

export type CheckOptions = {
  readonly vaultId: Uuid;
  /** Without it hashes, checksums, chains and positions are checked; with it everything is decrypted too. */
  readonly vaultKey?: Buffer;
  readonly signal?: AbortSignal;
};

/**
 * Reads everything of a vault in the storage account and reports what is wrong. Ends early only where the store itself
 * fails (STORE_UNAVAILABLE).
 */
export async function* verifyRepository(
  store: ObjectStore,
  options: CheckOptions,
): AsyncGenerator<CheckEvent> {
  const objects: ObjectHead[] = [];
  for await (const object of listAll(store, vaultPrefix(options.vaultId), options.signal))
    objects.push(object);
  const sealed: ObjectHead[] = [];
  for await (const object of listAll(store, sealedStatePrefix(options.vaultId), options.signal))
    sealed.push(object);
  yield* new RepositoryCheck(store, options, { objects, sealed }).run();
}

type Named<K extends ParsedName["kind"]> = {
  readonly object: ObjectHead;
  readonly parsed: Extract<ParsedName, { readonly kind: K }>;
};

class RepositoryCheck {
  readonly #store: ObjectStore;
  readonly #options: CheckOptions;
  readonly #objects: readonly ObjectHead[];
  /** The sealed state of the vault. */
  readonly #sealed: readonly ObjectHead[];
  readonly #findings: CheckEvent[] = [];
  /** Data keys by disk and version. */
  readonly #dataKeys = new Map<string, DataKey>();
  /** Segments that end with a tag, by disk, timeline and seq. */
  readonly #tagged = new Map<string, CheckedSegment>();
  /** Where timelines branch off, by disk and timeline. */
  readonly #parents = new Map<string, TimelineParent>();
  /** The segments that others branch off, by disk, timeline and seq; undefined until they were read and are whole. */
  readonly #bases = new Map<string, CheckedSegment | undefined>();
  /** After which segment a log cannot go on because of tampering, and where it does. */
  readonly #cuts = new Map<string, { readonly seq: number; readonly next: number }>();
  /** First segments of timelines that branch off: checked when all logs were read, since parents may come later. */
  readonly #starts: {
    readonly object: string;
    readonly log: Log;
    readonly start: CheckedSegment;
  }[] = [];
  readonly #bytesTotal: number;
  #objectsDone = 0;
  #bytesDone = 0;

  constructor(
    store: ObjectStore,
    options: CheckOptions,
    found: { readonly objects: readonly ObjectHead[]; readonly sealed: readonly ObjectHead[] },
  ) {
    this.#store = store;
    this.#options = options;
    this.#objects = found.objects;
    this.#sealed = found.sealed;
    const all = [...found.objects, ...found.sealed];
    this.#bytesTotal = all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  async *run(): AsyncGenerator<CheckEvent> {
    const keys = this.#named("wrapped-key");
    const descriptors = this.#named("disk-descriptor");
    const segments = this.#named("segment");
    const points = this.#named("recovery-point");
    for (const object of this.#objects)
      if (parseObjectName(this.#options.vaultId, object.name) === undefined) this.#unknown(object);
    for (const key of keys) yield* this.#each(key.object, () => this.#checkKey(key));
    for (const descriptor of descriptors)
      yield* this.#each(descriptor.object, () => this.#checkDescriptor(descriptor));
    yield* this.#checkLogs(segments, descriptors);
    for (const point of points) yield* this.#each(point.object, () => this.#checkPoint(point));
    yield* this.#checkSealed();
    yield* this.#flush();
  }

  async *#checkSealed(): AsyncGenerator<CheckEvent> {
    const { vaultId, vaultKey, signal } = this.#options;
    const check = new SealedCheck(this.#store, { vaultId, vaultKey }, signal);
    for (const object of this.#sealed) {
      const parsed = parseSealedName(object.name);
      if (parsed === undefined) this.#unknown(object);
      else yield* this.#each(object, () => check.check(object, parsed.number));
    }
    const end = check.end();
    if (end !== undefined) this.#problem(end.object, end.error);
  }

  #unknown({ name, sizeBytes }: ObjectHead): void {
    this.#problem(name, new OsrError(REPOSITORY_ERRORS.OBJECT_UNKNOWN, "its name is none of ours"));
    this.#done(sizeBytes);
  }

  async #checkKey({ object, parsed }: Named<"wrapped-key">): Promise<void> {
    const { vaultId, vaultKey, signal } = this.#options;
    const { diskId, version } = parsed;
    const bytes = await readSmallObject(this.#store, object.name, WRAPPED_KEY_BYTES_MAX, signal);
    if (vaultKey === undefined) return;
    const dataKey = unwrapDataKey(bytes, { vaultId, vaultKey, diskId }, version);
    this.#dataKeys.set(`${diskId}/${version}`, dataKey);
  }

  async #checkDescriptor({ object, parsed }: Named<"disk-descriptor">): Promise<void> {
    const { signal } = this.#options;
    const bytes = await readSmallObject(this.#store, object.name, DESCRIPTOR_BYTES_MAX, signal);
    const dataKey = this.#dataKeys.get(`${parsed.diskId}/1`);
    const indexRoot = dataKey === undefined ? undefined : indexRootOf(dataKey);
    const { diskId, timeline, parent } = decodeDiskDescriptor(bytes, indexRoot);
    if (diskId !== parsed.diskId || timeline !== parsed.timeline)
      throw new OsrError(
        REPOSITORY_ERRORS.OBJECT_MISPLACED,
        `it is the descriptor of disk ${diskId}, timeline ${timeline}`,
      );
    if (parent === undefined) return;
    this.#parents.set(logKey(parsed), parent);
    const parentKey = logKey({ diskId, timeline: parent.timeline });
    this.#bases.set(`${parentKey}/${parent.seq}`, undefined);
    const cut = this.#cuts.get(parentKey);
    if (parent.cause === "tampering" && (cut === undefined || timeline < cut.next))
      this.#cuts.set(parentKey, { seq: parent.seq, next: timeline });
  }

  async *#checkLogs(
    segments: readonly Named<"segment">[],
    descriptors: readonly Named<"disk-descriptor">[],
  ): AsyncGenerator<CheckEvent> {
    const described = new Set(descriptors.map(({ parsed }) => logKey(parsed)));
    let before: CheckedSegment | undefined;
    let seqBefore = 0;
    let log = "";
    for (const segment of segments) {
      const { object, parsed } = segment;
      if (logKey(parsed) !== log) {
        log = logKey(parsed);
        seqBefore = 0;
        before = undefined;
        if (!described.has(log)) this.#missing(object.name, "its disk has no descriptor");
      }
      const isPart = parsed.seq <= (this.#cuts.get(log)?.seq ?? Infinity);
      if (isPart && parsed.seq !== seqBefore + 1) {
        const gap = `segment ${seqBefore + 1} is missing before it`;
        this.#problem(object.name, new OsrError(REPOSITORY_ERRORS.LOG_BROKEN, gap));
      }
      const checked = yield* this.#checkSegment(segment);
      // What follows a segment that is missing or unreadable cannot be held against it.
      const isStart = parsed.seq === 1;
      const isLinked = isStart || (before !== undefined && parsed.seq === seqBefore + 1);
      if (checked !== undefined && isStart && this.#parents.has(log))
        this.#starts.push({ object: object.name, log: parsed, start: checked });
      else if (checked !== undefined && isLinked) this.#checkLink(object.name, checked, before);
      if (this.#bases.has(`${log}/${parsed.seq}`)) this.#bases.set(`${log}/${parsed.seq}`, checked);
      before = checked;
      seqBefore = parsed.seq;
    }
    for (const { object, log: branch, start } of this.#starts)
      this.#checkLink(object, start, this.#baseOf(branch));
    yield* this.#flush();
  }

  /** The segment that a timeline branches off; undefined where that holds nothing, or it is not whole. */
  #baseOf({ diskId, timeline }: Log): CheckedSegment | undefined {
    const parent = this.#parents.get(logKey({ diskId, timeline }));
    // Parents are older; what says otherwise is not followed for ever.
    if (parent === undefined || parent.timeline >= timeline) return undefined;
    const log = { diskId, timeline: parent.timeline };
    return parent.seq === 0 ? this.#baseOf(log) : this.#bases.get(`${logKey(log)}/${parent.seq}`);
  }

  async *#checkSegment({
    object,
    parsed,
  }: Named<"segment">): AsyncGenerator<CheckEvent, CheckedSegment | undefined> {
    const { vaultId, vaultKey, signal } = this.#options;
    const { diskId, timeline, seq } = parsed;
    const cut = this.#cuts.get(logKey(parsed));
    if (cut !== undefined && seq > cut.seq) {
      const message = `it is no part of the log, which goes on in timeline ${cut.next} after segment ${cut.seq}`;
      this.#problem(object.name, new OsrError(REPOSITORY_ERRORS.LOG_TAMPERED, message));
      this.#done(object.sizeBytes);
      yield* this.#flush();
      return undefined;
    }
    const bytesBefore = this.#bytesDone;
    let checked: CheckedSegment | undefined;
    try {
      const check = checkSegment(this.#store, {
        log: { vaultId, diskId, timeline },
        ref: { seq, sizeBytes: object.sizeBytes },
        signal,
        onProblem: (error) => this.#problem(object.name, error),
        dataKeyOf: (version) =>
          vaultKey === undefined ? undefined : this.#dataKey(diskId, version),
      });
      for (;;) {
        const step = await check.next();
        if (step.done === true) {
          checked = step.value;
          break;
        }
        this.#bytesDone += step.value;
        yield* this.#flush();
      }
      if (checked.footer.endsWithTag) this.#tagged.set(`${logKey(parsed)}/${seq}`, checked);
    } catch (error) {
      this.#caught(object.name, error);
    }
    this.#bytesDone = bytesBefore;
    this.#done(object.sizeBytes);
    yield* this.#flush();
    return checked;
  }

  #checkLink(name: string, { header, footer }: CheckedSegment, before?: CheckedSegment): void {
    const previous = {
      head: before?.head ?? NO_HEAD,
      generation: before?.header.generation ?? 0,
    };
    try {
      checkLink({ seq: header.seq, footer, generation: header.generation }, previous);
    } catch (error) {
      this.#caught(name, error);
    }
  }

  async #checkPoint({ object, parsed }: Named<"recovery-point">): Promise<void> {
    const { vaultKey, signal } = this.#options;
    await checkPoint(this.#store, {
      name: object.name,
      parsed,
      groupKey: vaultKey === undefined ? undefined : groupKeyOf(vaultKey, parsed.groupId),
      segmentOf: (disk) => this.#tagged.get(`${logKey(disk)}/${disk.seq}`),
      signal,
    });
  }

  /** The key that a segment needs; without it the segment cannot be checked with keys. */
  #dataKey(diskId: Uuid, version: number): DataKey {
    const dataKey = this.#dataKeys.get(`${diskId}/${version}`);
    if (dataKey !== undefined) return dataKey;
    throw new OsrError(
      REPOSITORY_ERRORS.KEY_VERSION_UNKNOWN,
      `version ${version} of the data key of disk ${diskId} is missing or does not open`,
    );
  }

  #named<K extends ParsedName["kind"]>(kind: K): readonly Named<K>[] {
    const named: Named<K>[] = [];
    for (const object of this.#objects) {
      const parsed = parseObjectName(this.#options.vaultId, object.name);
      if (parsed?.kind === kind) named.push({ object, parsed: parsed as Named<K>["parsed"] });
    }
    return named;
  }

  async *#each(object: ObjectHead, check: () => Promise<void>): AsyncGenerator<CheckEvent> {
    try {
      await check();
    } catch (error) {
      this.#caught(object.name, error);
    }
    this.#done(object.sizeBytes);
    yield* this.#flush();
  }

  *#flush(): Generator<CheckEvent> {
    yield* this.#findings.splice(0);
    yield {
      kind: "progress",
      objectsDone: this.#objectsDone,
      objectsTotal: this.#objects.length + this.#sealed.length,
      bytesDone: this.#bytesDone,
      bytesTotal: this.#bytesTotal,
    };
  }

  #done(bytes: number): void {
    this.#objectsDone += 1;
    this.#bytesDone += bytes;
  }

  /** A finding, unless the error says nothing about the object. */
  #caught(object: string, error: unknown): void {
    if (!(error instanceof OsrError) || error.retryable) throw error;
    this.#problem(object, error);
  }

  #missing(object: string, message: string): void {
    this.#problem(object, new OsrError(REPOSITORY_ERRORS.DESCRIPTOR_INVALID, message));
  }

  #problem(object: string, { code, message, hint }: OsrError): void {
    this.#findings.push({ kind: "finding", code, object, message, hint });
  }
}

type Log = { readonly diskId: Uuid; readonly timeline: number };

function logKey(of: Log): string {
  return `${of.diskId}/${of.timeline}`;
}
