import type { Agent, IncomingMessage } from "node:http";

import { OsrError } from "@osr/base/errors";
import { MIB } from "@osr/base/units";

import type {
  BlobContainer,
  BlobPage,
  BlobPageOptions,
  BlobRange,
  BlobUpload,
} from "./azure-blob-store-container.ts";
import { parseBlobPage } from "./azure-blob-store-list.ts";
import { putObject } from "./azure-blob-store-put.ts";
import { readRange } from "./azure-blob-store-read.ts";
import {
  type DirectAccess,
  type DirectOptions,
  openRequest,
  refusedBy,
  replyTo,
} from "./azure-blob-store-request.ts";
import { type ObjectBody, type ObjectHead, STORE_ERRORS } from "./object-store.ts";

/** A page has at most 5,000 blobs of about 1 KiB each. */
const PAGE_BYTES_MAX = 16 * MIB;
/** Earlier versions do not know `startFrom`. */
const LIST_API_VERSION = "2026-10-06";

/**
 * A container past Microsoft's client, which takes half a second to load and 5 ms for a call, the first of them much longer:
 * that was most of the time until a recovery point gave its first byte.
 */
export class DirectContainer implements BlobContainer {
  readonly #access: () => Promise<DirectAccess>;
  readonly #agent: Agent;

  /** `access` gives the credential as it is now. */
  constructor(access: () => Promise<DirectAccess>, agent: Agent) {
    this.#access = access;
    this.#agent = agent;
  }

  async put(
    name: string,
    body: ObjectBody,
    upload: BlobUpload,
    signal: AbortSignal,
  ): Promise<void> {
    await putObject(name, body, { ...upload, ...(await this.#options(signal)) });
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectHead> {
    const { headers } = await this.#emptyReply("HEAD", name, 200, signal);
    const oid = headers["x-ms-meta-oid"];
    const sizeBytes = Number(headers["content-length"] ?? 0);
    return { name, sizeBytes, ...(typeof oid === "string" ? { oid } : {}) };
  }

  async read(
    name: string,
    offset: number,
    target: Uint8Array,
    signal: AbortSignal,
  ): Promise<BlobRange> {
    return await readRange(name, offset, target, await this.#options(signal));
  }

  async page(options: BlobPageOptions, signal: AbortSignal): Promise<BlobPage> {
    const { prefix, startFrom, marker, pageMax } = options;
    const parameters = new URLSearchParams({
      restype: "container",
      comp: "list",
      prefix,
      maxresults: String(pageMax),
      ...(startFrom === undefined ? {} : { startFrom }),
      ...(marker === undefined ? {} : { marker }),
    });
    const outgoing = openRequest(
      { path: "", parameters },
      { method: "GET", headers: { "x-ms-version": LIST_API_VERSION } },
      await this.#options(signal),
    );
    outgoing.end();
    const reply = await replyTo(outgoing);
    if (reply.statusCode !== 200) throw refusedBy(reply);
    return parseBlobPage(await textOf(reply));
  }

  async delete(name: string, signal: AbortSignal): Promise<void> {
    await this.#emptyReply("DELETE", name, 202, signal);
  }

  async #emptyReply(
    method: "HEAD" | "DELETE",
    name: string,
    status: number,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const outgoing = openRequest(
      { path: `/${name}` },
      { method, headers: {} },
      await this.#options(signal),
    );
    outgoing.end();
    const reply = await replyTo(outgoing);
    if (reply.statusCode !== status) throw refusedBy(reply);
    reply.resume();
    return reply;
  }

  async #options(signal: AbortSignal): Promise<DirectOptions> {
    return { access: await this.#access(), agent: this.#agent, signal };
  }
}

/** Fails where the reply ends early. */
async function textOf(reply: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > PAGE_BYTES_MAX)
      throw new OsrError(
        STORE_ERRORS.STORE_REFUSED,
        `the storage account's list has more than ${PAGE_BYTES_MAX} bytes`,
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
