import { SECOND_MS } from "../units.ts";

/** npm passes on a Ctrl-C that the terminal has sent to us already: what comes so soon is the same key press. */
const SAME_PRESS_MS = SECOND_MS;

/**
 * A signal that is aborted by Ctrl-C or a termination signal; `onStop` hears which. A second Ctrl-C ends the process at once; a
 * second termination signal does not: supervisors send it to a process that Ctrl-C has reached already.
 */
export function interruption(onStop?: (name: NodeJS.Signals) => void): AbortSignal {
  const controller = new AbortController();
  let stoppedMs = Infinity;
  const stop = (name: NodeJS.Signals): void => {
    if (!controller.signal.aborted) {
      stoppedMs = performance.now();
      onStop?.(name);
      controller.abort(new Error(`stopped by ${name}`));
    } else if (name === "SIGINT" && performance.now() - stoppedMs > SAME_PRESS_MS) {
      process.exit(130);
    }
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return controller.signal;
}

/** For `interruption`: tells whoever waits at a terminal what happens now. */
export function sayCleaningUp(name: NodeJS.Signals): void {
  process.stderr.write(`\n${name}: cleaning up; Ctrl-C once more to end at once\n`);
}

/** Resolves when `signal` is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
