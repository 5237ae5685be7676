import { messageOf } from "@osr/base/errors";

import type { Narrator } from "./narrator.ts";
import { PeakMemory } from "./peak-memory.ts";
import { type Row, rowOf } from "./row.ts";
import { makeRunFolder } from "./run-folder.ts";
import type { Scale } from "./scale.ts";
import { type ShippedPrograms, shippedPrograms } from "./site/shipped-programs.ts";
import type { Suite } from "./suite.ts";

export type RunOptions = {
  readonly suites: readonly Suite[];
  readonly scale: Scale;
  /** Parent of the run's own folder. */
  readonly parentFolder?: string | undefined;
  readonly narrator: Narrator;
  readonly signal: AbortSignal;
};

export type SuiteFailure = { readonly suite: string; readonly message: string };

/** Runs suites one after the other in a folder that is removed whatever happens. A suite that fails is told, not hidden. */
export async function runSuites(
  options: RunOptions,
): Promise<{ readonly rows: readonly Row[]; readonly failures: readonly SuiteFailure[] }> {
  const { suites, scale, narrator, signal } = options;
  const rows: Row[] = [];
  const failures: SuiteFailure[] = [];
  const peaks = new PeakMemory();
  await using folder = await makeRunFolder(options.parentFolder);
  let compiled: Promise<ShippedPrograms> | undefined;
  const programs = (): Promise<ShippedPrograms> =>
    (compiled ??= narrator.step("compiling the programs as they are shipped", async () =>
      shippedPrograms(await folder.folder("programs"), signal),
    ));
  for (const suite of suites) {
    if (signal.aborted) break;
    narrator.say(`suite ${suite.name}: ${suite.summary}`);
    try {
      await suite.run({
        narrator,
        signal,
        folder,
        scale,
        programs,
        peaks,
        add: (measurement) => rows.push(rowOf(suite.name, measurement, scale.isSmall)),
      });
    } catch (error) {
      const message = messageOf(error);
      narrator.say(`suite ${suite.name} FAILED: ${message}`);
      failures.push({ suite: suite.name, message });
    }
  }
  return { rows, failures };
}
