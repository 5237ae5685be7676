/** Waits for all of them, also where one fails; then throws the first failure. */
export async function allDone(tasks: readonly Promise<unknown>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(tasks))
    if (outcome.status === "rejected") throw outcome.reason;
}
