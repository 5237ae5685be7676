import type { Agent } from "node:http";

import type { TokenCredential } from "@azure/core-auth";
import { type PipelineOptions, isRestError } from "@azure/core-rest-pipeline";
import {
  ContainerClient,
  type ContainerListBlobFlatSegmentResponse,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";

import { assert, must } from "@osr/base/assert";
import { freeBuffer } from "@osr/base/free-buffer";

import { UploadBody } from "./azure-blob-store-body.ts";
import type {
  BlobContainer,
  BlobPage,
  BlobPageOptions,
  BlobRange,
  BlobUpload,
} from "./azure-blob-store-container.ts";
import {
  type AzureEndpoint,
  type Secret,
  containerUrl,
  secretFile,
  secretOf,
} from "./azure-blob-store-credential.ts";
import { Refused } from "./azure-blob-store-errors.ts";
import { blobRangeOf, otherRange } from "./azure-blob-store-range.ts";
import type { ObjectBody, ObjectHead } from "./object-store.ts";

/**
 * A container through Microsoft's client: it signs with an account's key, and refuses to send a token in the clear. To be
 * loaded only where it is needed.
 */
export class SdkContainer implements BlobContainer {
  readonly #client: () => Promise<ContainerClient>;

  constructor(options: AzureEndpoint) {
    this.#client = clientOf(options);
  }

  async put(
    name: string,
    body: ObjectBody,
    { oid, fail }: BlobUpload,
    signal: AbortSignal,
  ): Promise<void> {
    using upload = new UploadBody(body, fail);
    const answered = new AbortController();
    try {
      await this.#call(async (client) => {
        await client.getBlockBlobClient(name).upload(upload.open, body.sizeBytes, {
          abortSignal: AbortSignal.any([signal, answered.signal]),
          conditions: { ifNoneMatch: "*" },
          metadata: oid === undefined ? {} : { oid },
        });
      });
    } finally {
      if (upload.isUnread) answered.abort();
    }
  }

  async head(name: string, abortSignal: AbortSignal): Promise<ObjectHead> {
    const found = await this.#call((client) =>
      client.getBlobClient(name).getProperties({ abortSignal }),
    );
    const oid = found.metadata?.["oid"];
    const sizeBytes = found.contentLength ?? 0;
    return { name, sizeBytes, ...(oid === undefined ? {} : { oid }) };
  }

  async read(
    name: string,
    offset: number,
    target: Uint8Array,
    abortSignal: AbortSignal,
  ): Promise<BlobRange> {
    return await this.#call(async (client) => {
      const reply = await client
        .getBlobClient(name)
        .download(offset, target.byteLength, { abortSignal, maxRetryRequests: 0 });
      const stream = must(reply.readableStreamBody, "a download in Node is a stream");
      const range = blobRangeOf(reply.contentRange, offset, target.byteLength);
      if (range === undefined || range.bytes !== reply.contentLength) {
        if ("destroy" in stream) (stream as { destroy(): void }).destroy();
        throw otherRange(name);
      }
      let filled = 0;
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        target.set(chunk, filled);
        filled += chunk.byteLength;
        freeBuffer(chunk);
      }
      assert(filled === range.bytes, "the SDK gives as many bytes as the reply's Content-Length");
      return range;
    });
  }

  async page(options: BlobPageOptions, abortSignal: AbortSignal): Promise<BlobPage> {
    const { prefix, startFrom, marker, pageMax } = options;
    return await this.#call(async (client) => {
      const { value } = await client
        .listBlobsFlat({ abortSignal, prefix, ...(startFrom === undefined ? {} : { startFrom }) })
        .byPage({
          maxPageSize: pageMax,
          ...(marker === undefined ? {} : { continuationToken: marker }),
        })
        .next();
      const page = must(value, "a list has a page") as ContainerListBlobFlatSegmentResponse;
      return {
        blobs: page.segment.blobItems.map(({ name, properties }) => ({
          name,
          sizeBytes: properties.contentLength ?? 0,
        })),
        marker: page.continuationToken,
      };
    });
  }

  async delete(name: string, abortSignal: AbortSignal): Promise<void> {
    await this.#call((client) => client.getBlobClient(name).delete({ abortSignal }));
  }

  async #call<T>(call: (client: ContainerClient) => Promise<T>): Promise<T> {
    try {
      return await call(await this.#client());
    } catch (cause) {
      if (!isRestError(cause) || cause.statusCode === undefined) throw cause;
      // Replies to HEAD have no body; the code is in a header of every reply.
      const code = cause.response?.headers.get("x-ms-error-code") ?? cause.code ?? "";
      throw new Refused({ status: cause.statusCode, code }, { cause });
    }
  }
}

/** A function that gives the container's client with the credential as it is now. */
function clientOf(options: AzureEndpoint): () => Promise<ContainerClient> {
  const url = containerUrl(options);
  const settings = pipelineOf(options.agent);
  const { credential } = options;
  const secret = secretFile(credential);
  if (credential.kind !== "key-file") {
    const client = new ContainerClient(url, tokenOf(secret), settings);
    return () => Promise.resolve(client);
  }
  let key: string | undefined;
  let client: ContainerClient | undefined;
  return async () => {
    const current = await secretOf(secret);
    if (client === undefined || current !== key)
      client = new ContainerClient(
        url,
        new StorageSharedKeyCredential(credential.accountName, current),
        settings,
      );
    key = current;
    return client;
  };
}

/** Every retry is ours, and nothing is read from the environment: an agent makes the SDK ignore its proxy variables. */
function pipelineOf(agent: Agent): StoragePipelineOptions & PipelineOptions {
  return {
    agent,
    retryOptions: { maxTries: 1 },
    redirectOptions: { maxRetries: 0 },
  };
}

function tokenOf(secret: Secret): TokenCredential {
  return {
    // A token that is always about to expire makes the SDK ask each time, so that a renewed file counts at once.
    getToken: async () => ({ token: await secretOf(secret), expiresOnTimestamp: 0 }),
  };
}
