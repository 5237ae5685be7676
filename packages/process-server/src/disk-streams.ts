import type { Uuid } from "@osr/base/uuid";

import { type DiskToOpen, openDiskStream } from "./disk-opening.ts";
import type { DiskStream } from "./disk-stream.ts";
import { checkMachine } from "./machine-check.ts";
import type { RecoveryPoints } from "./recovery-points.ts";
import type { RoleContext } from "./role-context.ts";

type Entry = {
  readonly diskId: Uuid;
  stream?: DiskStream;
  /** Ends when no opening of this disk is under way. */
  opening: Promise<unknown>;
};

/** The streams of all disks: one for each disk and timeline, for as long as the process server runs. */
export class DiskStreams {
  readonly #context: RoleContext;
  readonly #points: RecoveryPoints;
  readonly #entries = new Map<string, Entry>();

  constructor(context: RoleContext, points: RecoveryPoints) {
    this.#context = context;
    this.#points = points;
  }

  /** The stream of a disk; opens it where it is not open, or was lost. */
  async open(toOpen: DiskToOpen, signal: AbortSignal): Promise<DiskStream> {
    const { diskId, timeline } = toOpen.admitted;
    const name = `${diskId}/${timeline}`;
    const entry = this.#entries.get(name) ?? { diskId, opening: Promise.resolve() };
    this.#entries.set(name, entry);
    const opened = entry.opening.then(async () => {
      await entry.stream?.checkOwner(signal);
      if (entry.stream?.isLost === true) {
        await entry.stream.stop();
        delete entry.stream;
      }
      entry.stream ??= await openDiskStream(this.#context, this.#points, toOpen, signal);
      checkMachine(toOpen.request.machine, entry.stream.descriptor.machine);
      return entry.stream;
    });
    entry.opening = opened.catch(() => undefined);
    return opened;
  }

  /** Gives up a stream that is lost; the next session of the disk opens another one. */
  async forget(stream: DiskStream): Promise<void> {
    for (const entry of this.#entries.values()) {
      if (entry.stream !== stream) continue;
      const forgotten = entry.opening.then(() => this.#drop(entry, stream));
      entry.opening = forgotten;
      await forgotten;
    }
  }

  async #drop(entry: Entry, stream: DiskStream): Promise<void> {
    if (entry.stream !== stream) return;
    await stream.stop();
    delete entry.stream;
  }

  *all(): Generator<DiskStream> {
    for (const { stream } of this.#entries.values()) if (stream !== undefined) yield stream;
  }

  get count(): number {
    return this.#entries.size;
  }

  async stop(): Promise<void> {
    await Promise.all(
      [...this.#entries.values()].map(async (entry) => {
        await entry.opening;
        await entry.stream?.stop();
      }),
    );
  }
}
