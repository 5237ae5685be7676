/** A signal that is aborted by Ctrl-C or a termination signal; a second Ctrl-C ends the process at once. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted && name === "SIGINT") process.exit(130);
    if (controller.signal.aborted) return;
    process.stderr.write(`\n${name}: cleaning up; once more to end at once\n`);
    controller.abort(new Error(`stopped by ${name}`));
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return controller.signal;
}
