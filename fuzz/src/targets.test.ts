import assert from "node:assert/strict";
import { test } from "node:test";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";

import { runTargets } from "./run-targets.ts";
import { TARGETS } from "./targets.ts";

/** The same inputs in every run of the tests; longer runs with other seeds are `npm run fuzz`. */
const SEED = 20_261_124;
const RUNS = 150;

for (const target of TARGETS)
  test(`fuzz: ${target.name}: ${target.summary}`, async () => {
    assert.equal(await target.attempt(SEED, RUNS), undefined);
  });

test("targets have names of their own", () => {
  assert.equal(new Set(TARGETS.map(({ name }) => name)).size, TARGETS.length);
});

/** Fails for about one input in 2000, so not in the first round. */
const faulty = fuzzTarget(
  "faulty",
  "a parser with a defect",
  fc.property(fc.nat(1999), (n) => n !== 1234),
);
const sound = fuzzTarget(
  "sound",
  "a parser without one",
  fc.property(fc.nat(), () => true),
);

test("a finding ends the target, and its seed alone brings it again", async () => {
  const lines: string[] = [];
  let nowMs = 0;
  const campaign = {
    targets: [faulty, sound],
    durationMs: 2000,
    seed: 1,
    monotonicMs: () => (nowMs += 1),
    print: (line: string) => void lines.push(line),
  };
  const [finding, ...others] = await runTargets(campaign);
  assert.ok(finding !== undefined && others.length === 0);
  assert.equal(finding.target, "faulty");
  assert.match(finding.report, /Counterexample: \[1234\]/);
  assert.ok(lines.some((line) => line.includes(`--seed ${finding.seed} `)));
  assert.ok(lines.some((line) => /^sound: no finding, \d+ inputs/.test(line)));
  const again = await runTargets({
    ...campaign,
    targets: [faulty],
    durationMs: 0,
    seed: finding.seed,
  });
  assert.notEqual(finding.seed, campaign.seed);
  assert.deepEqual(
    again.map(({ report }) => report.split("\n", 3)),
    [finding.report.split("\n", 3)],
  );
});
