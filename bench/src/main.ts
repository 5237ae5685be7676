import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { parseArgs } from "node:util";

import { messageOf } from "@osr/base/errors";
import { GIB } from "@osr/base/units";

import { IMAGE_SEED } from "./data/disk-image.ts";
import { interruption, sayCleaningUp } from "@osr/base/platform/interruption";
import { narrator } from "./narrator.ts";
import { resultTable } from "./result-table.ts";
import { programVersions } from "./rivals/versions.ts";
import { everyMustHolds } from "./row.ts";
import { runSuites } from "./run-suites.ts";
import { FULL_SCALE, SMALL_SCALE } from "./scale.ts";
import type { Suite } from "./suite.ts";
import { SUITES } from "./suites.ts";

const HELP = `usage: npm run bench -- SUITE...|all [--small] [--json FILE]

Measures against rivals and against our own limits, and writes rows of
{suite, case, metric, unit, ours, rivals, goal, holds}. Needs root on Debian.
Exit code: 0 every must holds, 1 one does not, 2 a suite could not be run.

  --json FILE       where the result goes; standard output gets it otherwise
  --small           little data, for a quick look; rows are marked, goals about speed mean little
  --directory PATH  where the run's own folder is made; the full size needs 12 GiB there
  --list            the suites
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "string" },
      directory: { type: "string" },
      small: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.list) {
    for (const { name, summary } of SUITES) process.stdout.write(`${name}\t${summary}\n`);
    return 0;
  }
  const suites = suitesNamed(positionals);
  if (typeof suites === "string") return refuse(suites);
  if (process.platform !== "linux" || process.getuid?.() !== 0)
    return refuse("benchmarks need loop devices, tracefs and mounts: run them as root on Linux\n");
  const voice = narrator((text) => process.stderr.write(text));
  const signal = interruption(sayCleaningUp);
  const scale = values.small ? SMALL_SCALE : FULL_SCALE;
  const versions = await programVersions(signal);
  for (const [program, version] of Object.entries(versions)) voice.say(`${program}: ${version}`);
  const machine = machineFacts();
  const begin = performance.now();
  const parentFolder = values.directory;
  const run = await runSuites({ suites, scale, parentFolder, narrator: voice, signal });
  const { rows, failures } = run;
  const result = {
    holds: failures.length === 0 && everyMustHolds(rows),
    small: scale.isSmall,
    seconds: Math.round((performance.now() - begin) / 100) / 10,
    seed: IMAGE_SEED,
    machine: { ...machine, loadAfter: loadavg()[0] },
    versions,
    failures,
    rows,
  };
  process.stderr.write(`\n${resultTable(rows)}`);
  for (const { suite, message } of failures) process.stderr.write(`${suite}: ${message}\n`);
  const json = `${JSON.stringify(result, null, 2)}\n`;
  if (values.json === undefined) process.stdout.write(json);
  else writeFileSync(values.json, json);
  if (failures.length > 0 || signal.aborted) return 2;
  return result.holds ? 0 : 1;
}

function suitesNamed(names: readonly string[]): readonly Suite[] | string {
  if (names.length === 0) return HELP;
  const unknown = names.find((name) => name !== "all" && !SUITES.some((s) => s.name === name));
  if (unknown !== undefined) return `no suite ${unknown}; see --list\n`;
  return names.includes("all") ? SUITES : SUITES.filter(({ name }) => names.includes(name));
}

function machineFacts(): object {
  return {
    cpus: availableParallelism(),
    cpu: cpus()[0]?.model,
    memoryGib: Math.round(totalmem() / GIB),
    kernel: release(),
    loadBefore: loadavg()[0],
  };
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
