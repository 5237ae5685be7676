import type { Timed } from "../machine/command.ts";

/** A backup program with an encrypted, compressed repository in a folder. Every call is one process, timed as a whole. */
export interface Rival {
  /** As it appears in rows. */
  readonly name: string;
  /** Makes the repository. */
  init(): Promise<void>;
  /** Saves the disk image as it is now. */
  save(): Promise<Timed>;
  /** Bytes of all files of the repository. */
  storedBytes(): number;
  /** Restores what was saved last to a new file. */
  restoreToFile(folder: string): Promise<Timed & { readonly path: string }>;
  /** The same to nowhere. */
  restoreToNull(): Promise<Timed>;
}

export type RivalOptions = {
  /** A folder of its own: repository, home and caches. */
  readonly directory: string;
  readonly imagePath: string;
  readonly signal: AbortSignal;
};
