import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { canonicalJson } from "@osr/base/canonical-json";
import { type Shape, integer, object, parseJson, text, uuidText } from "@osr/base/json-shape";
import type { Uuid } from "@osr/base/uuid";
import { type Tag, tagShape } from "@osr/contracts/tag";
import type { TagPosition } from "@osr/repository/recovery-point";

import { readTextIfThere, replaceFile } from "./file-writing.ts";
import { pendingPointsFolder } from "./spool-layout.ts";

/** A tag of a disk that is in the log, while other disks of it may not be yet. */
export type PendingTag = { readonly tag: Tag; readonly position: TagPosition };

type Stored = {
  readonly tag: Tag;
  readonly diskId: Uuid;
  readonly timeline: number;
  readonly seq: number;
  readonly headSha256: string;
};

const storedShape: Shape<Stored> = object<Stored>({
  tag: tagShape,
  diskId: uuidText,
  timeline: integer(1),
  seq: integer(1),
  headSha256: text(64),
});

/** The folder `points` of the spool: docs/formats/spool.md. It outlives the spool files of the segments. */
export class PendingPoints {
  readonly #folder: string;

  constructor(spoolFolder: string) {
    this.#folder = pendingPointsFolder(spoolFolder);
  }

  /** Durable when it resolves. */
  async add({ tag, position }: PendingTag): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const { diskId, timeline, seq, head } = position;
    const stored: Stored = { tag, diskId, timeline, seq, headSha256: head.toString("hex") };
    await replaceFile(this.#path(tag, diskId), canonicalJson({ format: 1, ...stored }));
  }

  async remove(tag: Tag): Promise<void> {
    for (const diskId of tag.disks) await rm(this.#path(tag, diskId), { force: true });
  }

  /** All of a group. Unreadable files are left out: the worst is a point that is not made. */
  async list(groupId: Uuid): Promise<readonly PendingTag[]> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const pending: PendingTag[] = [];
    for (const name of await readdir(this.#folder)) {
      const stored = name.startsWith(groupId) ? await this.#read(name) : undefined;
      if (stored === undefined) continue;
      const { tag, headSha256, ...place } = stored;
      pending.push({ tag, position: { ...place, head: Buffer.from(headSha256, "hex") } });
    }
    return pending;
  }

  async #read(name: string): Promise<Stored | undefined> {
    const json = await readTextIfThere(join(this.#folder, name));
    try {
      return json === undefined ? undefined : parseJson(json, storedShape);
    } catch {
      return undefined;
    }
  }

  #path({ groupId, slot }: Tag, diskId: Uuid): string {
    const slotHex = slot.toString(16).padStart(16, "0");
    return join(this.#folder, `${groupId}-${slotHex}-${diskId}.json`);
  }
}
