/** Time comes in through this port, so that simulation can replay us. */
export interface Clock {
  /** Milliseconds since 1970, UTC. It may jump, back as well as forward: no safety rule may depend on it. */
  unixMs(): number;
  /** Milliseconds since some moment, never going back, with fractions. For durations and time limits. */
  monotonicMs(): number;
}
