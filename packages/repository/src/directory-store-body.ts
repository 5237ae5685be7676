import { open } from "node:fs/promises";

import { OsrError } from "@osr/base/errors";

import { onDisk, writeFully } from "./directory-store-disk.ts";
import { encodeTrailer } from "./directory-store-trailer.ts";
import { type CreateOptions, type ObjectBody, STORE_ERRORS } from "./object-store.ts";

/**
 * Writes `body` and its trailer to the new file `path` and makes the content durable. Errors of the body pass through as
 * they are; where this throws, the file may be there.
 */
export async function writeObject(
  path: string,
  body: ObjectBody,
  options: CreateOptions,
): Promise<void> {
  const handle = await onDisk(open(path, "wx", 0o600));
  try {
    let position = 0;
    for await (const chunk of abortable(body.open(), options.signal)) {
      if (position + chunk.byteLength > body.sizeBytes) throw wrongLength(body, "more");
      await onDisk(writeFully(handle, chunk, position));
      position += chunk.byteLength;
      body.release?.(chunk);
    }
    if (position < body.sizeBytes) throw wrongLength(body, "fewer");
    await onDisk(writeFully(handle, encodeTrailer(position, options.oid), position));
    await onDisk(handle.sync());
  } finally {
    await handle.close();
  }
}

function wrongLength(body: ObjectBody, which: "more" | "fewer"): OsrError {
  return new OsrError(
    STORE_ERRORS.OBJECT_BODY_INVALID,
    `the body has ${which} than its ${body.sizeBytes} bytes`,
  );
}

/** The chunks of `source`, until `signal` is aborted, also where `source` itself never answers again. */
async function* abortable(
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
