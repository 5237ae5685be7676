/** What a row must reach, why, and whether it does. */
export type Goal = {
  /** must: a condition of release; aim: what we would like; information: nothing is claimed. */
  readonly importance: "must" | "aim" | "information";
  readonly text: string;
  readonly reached: (measured: Measured) => boolean;
};

/** Numbers of one thing, ours and the rivals', in the unit of the row. */
export type Measured = {
  readonly ours: number;
  readonly rivals: Readonly<Record<string, number>>;
};

/** What a suite measured. */
export type Measurement = Measured & {
  /** The circumstances: the data, the load. */
  readonly case: string;
  readonly metric: string;
  readonly unit: string;
  readonly goal: Goal;
  /** All runs of a median, ours; absent where there was one. */
  readonly runs?: readonly number[];
  /** How it was measured, where that is not obvious. */
  readonly note?: string;
};

/** One line of the result. */
export type Row = {
  readonly suite: string;
  readonly case: string;
  readonly metric: string;
  readonly unit: string;
  readonly ours: number;
  readonly rivals: Readonly<Record<string, number>>;
  /** Begins with `must` or `aim`; `information` where nothing is claimed. */
  readonly goal: string;
  readonly holds: boolean;
  readonly runs?: readonly number[];
  readonly note?: string;
  /** Measured with less data than the goals are meant for. */
  readonly small?: true;
};

/** Holds only where a number was measured: a missing one never reaches a goal. */
export function rowOf(suite: string, measurement: Measurement, isSmall: boolean): Row {
  const { goal, ours, rivals, runs, note } = measurement;
  const holds =
    goal.importance === "information" || (Number.isFinite(ours) && goal.reached({ ours, rivals }));
  return {
    suite,
    case: measurement.case,
    metric: measurement.metric,
    unit: measurement.unit,
    ours: rounded(ours),
    rivals: Object.fromEntries(
      Object.entries(rivals).map(([name, value]) => [name, rounded(value)]),
    ),
    goal: goal.importance === "information" ? goal.importance : `${goal.importance}: ${goal.text}`,
    holds,
    ...(runs === undefined ? {} : { runs: runs.map(rounded) }),
    ...(note === undefined ? {} : { note }),
    ...(isSmall ? { small: true as const } : {}),
  };
}

/** True where a release could be made: every must of the rows holds, and there is one. */
export function everyMustHolds(rows: readonly Row[]): boolean {
  const musts = rows.filter(({ goal }) => goal.startsWith("must"));
  return musts.length > 0 && musts.every(({ holds }) => holds);
}

export const INFORMATION: Goal = { importance: "information", text: "", reached: () => true };

type Importance = "must" | "aim";

/** Ours is at most `limit`. */
export function atMost(importance: Importance, limit: number, text: string): Goal {
  return { importance, text, reached: ({ ours }) => ours <= limit };
}

/** Ours is below `limit`. */
export function below(importance: Importance, limit: number, text: string): Goal {
  return { importance, text, reached: ({ ours }) => ours < limit };
}

/** Ours is at most `factor` times that of every named rival. */
export function atMostRivals(
  importance: Importance,
  names: readonly string[],
  factor: number,
  text: string,
): Goal {
  return againstAll(importance, names, text, (ours, rival) => ours <= factor * rival);
}

/** Ours is at least `factor` times that of every named rival. */
export function atLeastRivals(
  importance: Importance,
  names: readonly string[],
  factor: number,
  text: string,
): Goal {
  return againstAll(importance, names, text, (ours, rival) => ours >= factor * rival);
}

/** Ours is more than that of every named rival. */
export function moreThanRivals(
  importance: Importance,
  names: readonly string[],
  text: string,
): Goal {
  return againstAll(importance, names, text, (ours, rival) => ours > rival);
}

/** A rival without a number was not beaten. */
function againstAll(
  importance: Importance,
  names: readonly string[],
  text: string,
  compare: (ours: number, rival: number) => boolean,
): Goal {
  return {
    importance,
    text,
    reached: ({ ours, rivals }) =>
      names.length > 0 &&
      names.every((name) => {
        const rival = rivals[name];
        return rival !== undefined && Number.isFinite(rival) && compare(ours, rival);
      }),
  };
}

/** Three digits behind the point are more than any of the measurements is worth. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
