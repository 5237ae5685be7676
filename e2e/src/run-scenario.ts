import { messageOf } from "@osr/base/errors";

import { newLeaks, ownedByMachine } from "./rig/leaks.ts";
import type { Narrator } from "./rig/narrator.ts";
import { makeRunFolder } from "./rig/run-folder.ts";
import type { Check, Scenario, ScenarioResult } from "./scenario.ts";

/** Runs a scenario in a folder of its own, cleans up whatever happens, and looks for what was left behind. Never throws. */
export async function runScenario(
  scenario: Scenario,
  narrator: Narrator,
  signal: AbortSignal,
  isShort = false,
): Promise<ScenarioResult> {
  const begin = performance.now();
  const checks: Check[] = [];
  const check = (name: string, holds: boolean, detail: string): void => {
    checks.push({ check: name, holds, detail });
    narrator.say(`${holds ? "holds" : "FAILS"}: ${name} (${detail})`);
  };
  const figures: Record<string, unknown> = {};
  const figure = (name: string, value: unknown): void => {
    figures[name] = value;
  };
  const before = await ownedByMachine();
  let path = "";
  try {
    await using folder = await makeRunFolder();
    path = folder.path;
    await scenario.run({ narrator, signal, folder, check, figure, isShort });
  } catch (error) {
    check("the scenario ran to its end", false, messageOf(error));
  }
  if (isShort) check("the run is a whole one", false, "--short leaves things out");
  const leaks = await newLeaks(before, path);
  check("nothing is left behind", leaks.length === 0, leaks.join("; ") || "no leaks");
  return {
    name: scenario.name,
    // One check is that of the leaks; a scenario without a claim of its own proves nothing.
    holds: checks.length > 1 && checks.every(({ holds }) => holds),
    seconds: Math.round((performance.now() - begin) / 100) / 10,
    checks,
    ...(Object.keys(figures).length === 0 ? {} : { figures }),
  };
}
