/** What `osr` returns to its caller; `osr --help` lists them. */
export const EXIT_CODES = {
  success: 0,
  /** Something failed; the standard error names code, message and remedy. */
  failure: 1,
  /** The command line is wrong; nothing was done. */
  usage: 2,
  /** The command ran, and what it checked does not hold (repository verify, doctor). */
  notHeld: 3,
  /** Ended by Ctrl-C or a termination signal. */
  interrupted: 130,
} as const;

export const EXIT_CODES_HELP = `
Exit codes:
  0    success
  1    failure; the standard error names code, message and remedy
  2    wrong command line; nothing was done
  3    the command ran, and what it checked does not hold
  130  interrupted`;
