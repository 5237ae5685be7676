import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { messageOf } from "@osr/base/errors";

import { interruption, sayCleaningUp } from "@osr/base/platform/interruption";
import { narrator } from "./rig/narrator.ts";
import { hasOwnNetwork, runAgainInOwnNetwork } from "./rig/own-network.ts";
import { rigMissing } from "./rig/requirements.ts";
import { runScenario } from "./run-scenario.ts";
import type { Scenario } from "./scenario.ts";
import { controlPlaneChaos } from "./scenarios/control-plane-chaos.ts";
import { fastPoints } from "./scenarios/fast-points.ts";
import { kill } from "./scenarios/kill.ts";
import { layers } from "./scenarios/layers.ts";
import { outage } from "./scenarios/outage.ts";
import { lifecycleSdk } from "./scenarios/lifecycle-sdk.ts";
import { resync } from "./scenarios/resync.ts";
import { siteChanges } from "./scenarios/site-changes.ts";
import { uefi } from "./scenarios/uefi.ts";

const SCENARIOS: readonly Scenario[] = [
  fastPoints,
  kill,
  outage,
  resync,
  layers,
  uefi,
  lifecycleSdk,
  siteChanges,
  controlPlaneChaos,
];

const HELP = `usage: npm run e2e -- NAME [--json FILE]

Runs an end-to-end scenario and writes {name, holds, seconds, checks: [{check, holds, detail}], figures?}.
Exit code: 0 it holds, 1 it does not, 2 it could not be run.

  --json FILE  where the result goes; standard output gets it otherwise
  --short      less waiting and fewer repetitions, where a scenario has many; such a run never holds
  --list       the scenarios
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "string" },
      list: { type: "boolean", default: false },
      short: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const [name, ...rest] = positionals;
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.list) {
    for (const { name, summary } of SCENARIOS) process.stdout.write(`${name}\t${summary}\n`);
    return 0;
  }
  const scenario = SCENARIOS.find((each) => each.name === name);
  if (scenario === undefined || rest.length > 0)
    return refuse(name === undefined ? HELP : `no scenario ${positionals.join(" ")}; see --list\n`);
  const missing = rigMissing();
  if (missing !== undefined) return refuse(`${missing}; run npm run setup\n`);
  const voice = narrator((text) => process.stderr.write(text));
  const signal = interruption(sayCleaningUp);
  if (scenario.beforeOwnNetwork !== undefined && !hasOwnNetwork()) {
    await scenario.beforeOwnNetwork(voice, signal);
    return await runAgainInOwnNetwork(signal);
  }
  const result = await runScenario(scenario, voice, signal, values.short);
  const json = `${JSON.stringify(result, null, 2)}\n`;
  if (values.json === undefined) process.stdout.write(json);
  else writeFileSync(values.json, json);
  voice.say(`${scenario.name} ${result.holds ? "holds" : "does NOT hold"}`);
  return result.holds ? 0 : 1;
}

function refuse(message: string): number {
  process.stderr.write(message);
  return 2;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 2;
}
