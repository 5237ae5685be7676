import type { Narrator } from "./rig/narrator.ts";
import type { RunFolder } from "./rig/run-folder.ts";

/** One thing that a scenario claims. */
export type Check = { readonly check: string; readonly holds: boolean; readonly detail: string };

export type ScenarioContext = {
  readonly narrator: Narrator;
  /** Aborted by Ctrl-C; a scenario cleans up and ends soon. */
  readonly signal: AbortSignal;
  readonly folder: RunFolder;
  /** The run is for whoever works on the scenario: it may leave out repetitions and wait less, and never holds. */
  readonly isShort: boolean;
  /** Notes whether a claim holds, with the numbers behind it. */
  readonly check: (check: string, holds: boolean, detail: string) => void;
  /** Puts measurements beside the checks. */
  readonly figure: (name: string, value: unknown) => void;
};

/** An end-to-end scenario: real processes, real machines, and claims that can fail. */
export type Scenario = {
  readonly name: string;
  /** One line for people. */
  readonly summary: string;
  /**
   * Present where the scenario runs in a network namespace of its own, in which it may use other addresses than loopback. Makes
   * before, outside, what needs the network there is: images.
   */
  readonly beforeOwnNetwork?: (narrator: Narrator, signal: AbortSignal) => Promise<void>;
  run(context: ScenarioContext): Promise<void>;
};

/** What `npm run e2e -- NAME --json FILE` writes. */
export type ScenarioResult = {
  readonly name: string;
  /** True where every check holds, and there was at least one. */
  readonly holds: boolean;
  readonly seconds: number;
  readonly checks: readonly Check[];
  readonly figures?: Readonly<Record<string, unknown>>;
};
