import type { FuzzTarget } from "@osr/base/testing/fuzz-target";

/** Inputs of one round, so of one seed: few enough that progress is seen, and fixed, so that a seed gives the same inputs. */
export const RUNS_PER_ROUND = 100;
const SEED_MAX = 2 ** 31;
const PROGRESS_MS = 5000;

export type Campaign = {
  readonly targets: readonly FuzzTarget[];
  /** Over all targets, each of which gets its share. */
  readonly durationMs: number;
  /** Of the first round of each target; the next ones count up from it. */
  readonly seed: number;
  readonly monotonicMs: () => number;
  readonly print: (line: string) => void;
  readonly signal?: AbortSignal;
};

/** What a target fails with. `seed` alone brings it again, in the first round. */
export type Finding = { readonly target: string; readonly seed: number; readonly report: string };

/** Tries each target for its share of the time, at least for one round. A target ends with its first finding. */
export async function runTargets(campaign: Campaign): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const target of campaign.targets) {
    if (campaign.signal?.aborted === true) break;
    const finding = await runTarget(target, campaign);
    if (finding !== undefined) findings.push(finding);
  }
  return findings;
}

async function runTarget(target: FuzzTarget, campaign: Campaign): Promise<Finding | undefined> {
  const { print, monotonicMs } = campaign;
  const startMs = monotonicMs();
  const endMs = startMs + campaign.durationMs / campaign.targets.length;
  let saidMs = startMs;
  let rounds = 0;
  const throughput = (): string => {
    const seconds = Math.max(0.001, (monotonicMs() - startMs) / 1000);
    const runs = rounds * RUNS_PER_ROUND;
    return `${runs} inputs in ${seconds.toFixed(1)} s, ${Math.round(runs / seconds)}/s`;
  };
  do {
    const seed = (campaign.seed + rounds) % SEED_MAX;
    const report = await target.attempt(seed, RUNS_PER_ROUND);
    rounds += 1;
    if (report !== undefined) {
      print(`${target.name}: FINDING after ${throughput()}`);
      print(report);
      print(`again with: npm run fuzz -- --seed ${seed} --seconds 1 ${target.name}`);
      return { target: target.name, seed, report };
    }
    if (monotonicMs() - saidMs >= PROGRESS_MS) {
      saidMs = monotonicMs();
      print(`${target.name}: ${throughput()}, at seed ${seed}`);
    }
  } while (monotonicMs() < endMs && campaign.signal?.aborted !== true);
  print(`${target.name}: no finding, ${throughput()}`);
  return undefined;
}
