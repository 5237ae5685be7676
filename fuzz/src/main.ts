import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";

import { messageOf } from "@osr/base/errors";
import type { FuzzTarget } from "@osr/base/testing/fuzz-target";

import { runTargets } from "./run-targets.ts";
import { TARGETS } from "./targets.ts";

const HELP = `usage: npm run fuzz -- [--seconds N] [--seed S] [NAME...]

Gives the parsers of outside bytes what they do not expect. Without names all of them.
Exit code: 0 no finding, 1 a finding (with the seed that brings it again), 2 wrong use.

  --seconds N  over all targets together; each tries at least one round (default: 60)
  --seed S     whole number below 2^31 (default: a random one, which is printed)
  --list       the targets
`;
const SECONDS_DEFAULT = "60";
const SECONDS_MAX = 7 * 24 * 60 * 60;
const SEED_MAX = 2 ** 31;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string", default: SECONDS_DEFAULT },
      seed: { type: "string", default: String(randomInt(SEED_MAX)) },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.list) {
    for (const { name, summary } of TARGETS) process.stdout.write(`${name}\t${summary}\n`);
    return 0;
  }
  const targets = targetsNamed(positionals);
  const seconds = wholeNumber("--seconds", values.seconds, 1, SECONDS_MAX);
  const seed = wholeNumber("--seed", values.seed, 0, SEED_MAX - 1);
  process.stdout.write(`seed ${seed}, ${seconds} s, ${targets.length} target(s)\n`);
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const findings = await runTargets({
    targets,
    durationMs: seconds * 1000,
    seed,
    monotonicMs: () => performance.now(),
    print: (line) => process.stdout.write(`${line}\n`),
    signal: stop.signal,
  });
  process.stdout.write(`${findings.length} finding(s)\n`);
  return findings.length === 0 ? 0 : 1;
}

function targetsNamed(names: readonly string[]): readonly FuzzTarget[] {
  const unknown = names.find((name) => !TARGETS.some((target) => target.name === name));
  if (unknown !== undefined) throw new Error(`no target ${unknown}; see --list`);
  return names.length === 0 ? TARGETS : TARGETS.filter(({ name }) => names.includes(name));
}

function wholeNumber(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new Error(`${option} must be a whole number from ${min} to ${max}, got ${text}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 2;
}
