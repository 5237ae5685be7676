import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";

import { systemErrorCode } from "@osr/base/errors";

import { syncDirectory } from "./directory-store-disk.ts";

/** Directories that are remembered as durable; beyond that all are forgotten and synced again when they are used. */
const DIRECTORIES_MAX = 65_536;

/**
 * Which names of a directory store are on the disk for good.
 *
 * A name is visible as soon as it is linked, but durable only once its directory is synced; after a crash of the
 * process alone even old names may still be on their way to the disk. Nobody may be told of a name that a power loss
 * could take back, since a writer that meets its own object takes that as success. So each directory is synced once
 * before the first of its names is shown, and a name whose creator is still at work is shown only after another sync.
 */
export class DirectoryDurability {
  readonly #top: string;
  readonly #settled = new Map<string, Promise<void>>();
  /** Paths between link and sync, and how many creators are there. */
  readonly #publishing = new Map<string, number>();

  /** `top` exists and is durable; every path that is asked about lies below. */
  constructor(top: string) {
    this.#top = top;
  }

  /** Makes `directory`, where it is missing, and all names that are in it now durable, and so upwards. */
  settle(directory: string): Promise<void> {
    const known = this.#settled.get(directory);
    if (known !== undefined) return known;
    if (this.#settled.size >= DIRECTORIES_MAX) this.#settled.clear();
    const settled = this.#settleOnce(directory);
    this.#settled.set(directory, settled);
    settled.catch(() => this.#settled.delete(directory));
    return settled;
  }

  async #settleOnce(directory: string): Promise<void> {
    if (directory !== this.#top) {
      const parent = dirname(directory);
      await this.settle(parent);
      const isNew = await mkdir(directory, { mode: 0o700 }).then(
        () => true,
        (error: unknown) => {
          if (systemErrorCode(error) === "EEXIST") return false;
          throw error;
        },
      );
      if (isNew) await syncDirectory(parent);
    }
    await syncDirectory(directory);
  }

  /** Runs `link`, which makes `path` visible, and makes it durable. Where that fails, `path` stays suspect. */
  async publish(path: string, link: () => Promise<void>): Promise<void> {
    const directory = dirname(path);
    await this.settle(directory);
    this.#publishing.set(path, (this.#publishing.get(path) ?? 0) + 1);
    try {
      await link();
    } catch (error) {
      this.#published(path);
      throw error;
    }
    await syncDirectory(directory);
    this.#published(path);
  }

  #published(path: string): void {
    const others = (this.#publishing.get(path) ?? 1) - 1;
    if (others > 0) this.#publishing.set(path, others);
    else this.#publishing.delete(path);
  }

  /** Resolves when `path`, which was seen, cannot vanish any more. */
  async confirm(path: string): Promise<void> {
    const directory = dirname(path);
    await this.settle(directory);
    if (this.#publishing.has(path)) await syncDirectory(directory);
  }
}
