/** The chunks of `source`, until `signal` is aborted, also where `source` itself never answers again. */
export async function* abortable(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => undefined);
  const onAbort = (): void => reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const iterator = source[Symbol.asyncIterator]();
  let isWaiting = false;
  try {
    for (;;) {
      signal?.throwIfAborted();
      isWaiting = true;
      const next = await Promise.race([iterator.next(), aborted]);
      isWaiting = false;
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    // A generator that is stuck queues the call for ever, so that it is not waited for.
    const returned = iterator.return?.();
    if (!isWaiting) await returned;
    else returned?.catch(() => undefined);
  }
}
