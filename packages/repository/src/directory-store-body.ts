import { open } from "node:fs/promises";

import { OsrError } from "@osr/base/errors";

import { abortable } from "./abortable.ts";
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
