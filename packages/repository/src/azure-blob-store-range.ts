import { OsrError } from "@osr/base/errors";

import type { BlobRange } from "./azure-blob-store-container.ts";
import { STORE_ERRORS } from "./object-store.ts";

/** What a Content-Range says; undefined unless that is up to `bytesMax` bytes from `offset` on. */
export function blobRangeOf(
  contentRange: string | undefined,
  offset: number,
  bytesMax: number,
): BlobRange | undefined {
  // Beyond the end Azure answers 416, and Azurite the empty range `bytes 10-9/10`.
  const found = /^bytes (\d+)-(-?\d+)\/(\d+)$/.exec(contentRange ?? "");
  const [first = -1, last = -1, sizeBytes = -1] = (found ?? []).slice(1).map(Number);
  const bytes = last - first + 1;
  // Fewer than were asked for are the last ones.
  const isRight = first === offset && bytes >= 0 && bytes <= bytesMax && last < sizeBytes;
  return isRight && (bytes === bytesMax || last + 1 === sizeBytes)
    ? { bytes, sizeBytes }
    : undefined;
}

export function otherRange(name: string): OsrError {
  return new OsrError(
    STORE_ERRORS.STORE_REFUSED,
    `the storage account sent another part of ${name} than it was asked for`,
  );
}
