import * as fc from "fast-check";

/** A parser of outside bytes, and what must hold of it whatever it is given. Kept beside the parser, in `x.fuzz.ts`. */
export type FuzzTarget = {
  readonly name: string;
  /** What is tried. */
  readonly summary: string;
  /** Tries `runs` inputs that follow from `seed`. The report of the first that fails, made as small as it goes, or undefined. */
  attempt(seed: number, runs: number): Promise<string | undefined>;
};

/**
 * `property` fails for a finding: wrong data, an error that is none of ours, a limit that does not hold. Where it is not a function of its input alone (a server
 * has a state), a smaller input proves nothing: `isStateful` reports the first as it is.
 */
export function fuzzTarget<Ts>(
  name: string,
  summary: string,
  property: fc.IRawProperty<Ts>,
  { isStateful = false }: { readonly isStateful?: boolean } = {},
): FuzzTarget {
  return {
    name,
    summary,
    attempt: async (seed, runs) => {
      const details = await fc.check(property, {
        seed,
        numRuns: runs,
        endOnFailure: isStateful,
      });
      if (!details.failed) return undefined;
      const { errorInstance } = details;
      const error = errorInstance instanceof Error ? errorInstance.stack : "";
      return `${await fc.asyncDefaultReportMessage(details)}\n${error}`;
    },
  };
}
