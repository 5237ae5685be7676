import type { Measurement } from "./row.ts";
import type { Narrator } from "./narrator.ts";
import type { PeakMemory } from "./peak-memory.ts";
import type { RunFolder } from "./run-folder.ts";
import type { Scale } from "./scale.ts";
import type { ShippedPrograms } from "./site/shipped-programs.ts";

export type SuiteContext = {
  readonly narrator: Narrator;
  /** Aborted by Ctrl-C; a suite cleans up and ends soon. */
  readonly signal: AbortSignal;
  readonly folder: RunFolder;
  readonly scale: Scale;
  /** Compiled when they are first asked for. */
  readonly programs: () => Promise<ShippedPrograms>;
  /** Where every suite notes the memory of the roles that it ran. */
  readonly peaks: PeakMemory;
  readonly add: (measurement: Measurement) => void;
};

/** A group of measurements that share their preparation. */
export type Suite = {
  readonly name: string;
  /** One line for people. */
  readonly summary: string;
  run(context: SuiteContext): Promise<void>;
};
