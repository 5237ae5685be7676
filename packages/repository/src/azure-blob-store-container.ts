import type { ObjectBody, ObjectHead } from "./object-store.ts";

export type BlobUpload = {
  readonly oid: string | undefined;
  /** Hears what the body failed with, to tell it from a failure of the service. */
  readonly fail: (reason: unknown) => void;
};

/** Which blobs: `startFrom`, which it includes, may not be known to a service; `marker` is that of the page before. */
export type BlobPageOptions = {
  readonly prefix: string;
  readonly startFrom: string | undefined;
  readonly marker: string | undefined;
  readonly pageMax: number;
};

export type BlobPage = {
  readonly blobs: readonly ObjectHead[];
  /** Absent at the end. Azure may answer empty pages that go on. */
  readonly marker: string | undefined;
};

/** What was read of a blob: so many bytes, of so many in all. */
export type BlobRange = { readonly bytes: number; readonly sizeBytes: number };

/**
 * The calls of the Blob service that objects need, one request each:
 * https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
 * Each throws Refused for an answer that is a refusal, and otherwise the system's error or an AbortError.
 */
export interface BlobContainer {
  /** Put Blob where there is none. */
  put(name: string, body: ObjectBody, upload: BlobUpload, signal: AbortSignal): Promise<void>;
  head(name: string, signal: AbortSignal): Promise<ObjectHead>;
  /** Fills `target` with what the object has from `offset` on. Refused with 416 where that is nothing. */
  read(name: string, offset: number, target: Uint8Array, signal: AbortSignal): Promise<BlobRange>;
  page(options: BlobPageOptions, signal: AbortSignal): Promise<BlobPage>;
  delete(name: string, signal: AbortSignal): Promise<void>;
}
