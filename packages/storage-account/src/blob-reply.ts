import type { ServerResponse } from "node:http";

import { freeBuffer } from "@osr/base/free-buffer";
import { httpTime } from "@osr/base/platform/iso-time";
import { KIB } from "@osr/base/units";
import type { OpenObject, StoredHead, StoredPage } from "@osr/repository/directory-store";

import { refuse } from "./blob-refusal.ts";
import type { ByteRange } from "./blob-request.ts";

/** Read and sent at once; each reply that is under way holds one of these. */
const PIECE_BYTES = 256 * KIB;
/** Up to here a reply is sent as a whole; TLS copies it together. */
const WHOLE_BYTES_MAX = 128 * KIB;

/** Objects never change, so that what never changes about them identifies their content. */
export function etagOf(head: StoredHead): string {
  return `"0x${head.createdUnixMs.toString(16)}${head.sizeBytes.toString(16).padStart(8, "0")}"`;
}

/** Sets the headers that every reply about an object has. */
export function setObjectHeaders(response: ServerResponse, head: StoredHead): void {
  response.setHeader("etag", etagOf(head));
  response.setHeader("last-modified", httpTime(head.createdUnixMs));
}

/** Sets the headers of Get Blob and Get Blob Properties. */
export function setContentHeaders(response: ServerResponse, head: StoredHead): void {
  setObjectHeaders(response, head);
  response.setHeader("accept-ranges", "bytes");
  response.setHeader("content-type", "application/octet-stream");
  response.setHeader("x-ms-blob-type", "BlockBlob");
  response.setHeader("x-ms-creation-time", httpTime(head.createdUnixMs));
  if (head.oid !== undefined) response.setHeader("x-ms-meta-oid", head.oid);
}

/** Sends the object, or the part of it that lies within `range`, from the disk with little memory. */
export async function sendObject(
  response: ServerResponse,
  object: OpenObject,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { sizeBytes } = object.head;
  const first = range?.first ?? 0;
  if (range !== undefined && first >= sizeBytes) refuse("InvalidRange");
  const end = Math.min((range?.last ?? sizeBytes) + 1, sizeBytes);
  setContentHeaders(response, object.head);
  response.setHeader("content-length", end - first);
  if (range !== undefined)
    response.setHeader("content-range", `bytes ${first}-${end - 1}/${sizeBytes}`);
  response.statusCode = range === undefined ? 200 : 206;
  if (end - first <= WHOLE_BYTES_MAX) await sendWhole(response, object, first, end - first);
  else await sendPieces(response, object, first, end, signal);
}

/** Head and bytes in one call of the system, which wakes the client once: it waits for them to go on. */
async function sendWhole(
  response: ServerResponse,
  object: OpenObject,
  offset: number,
  bytes: number,
): Promise<void> {
  const whole = Buffer.allocUnsafeSlow(bytes);
  await object.read(offset, whole);
  response.end(whole, () => freeBuffer(whole));
}

async function sendPieces(
  response: ServerResponse,
  object: OpenObject,
  first: number,
  end: number,
  signal: AbortSignal,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let offset = first; offset < end; offset += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, end - offset));
    await object.read(offset, piece);
    await written(response, piece, signal);
  }
  // The last piece has been handed to the system.
  freeBuffer(buffer);
  response.end();
}

/** Resolves when `piece` may be written to again; rejects when the client is gone. */
async function written(
  response: ServerResponse,
  piece: Buffer,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  response.write(piece, (error) => (error instanceof Error ? reject(error) : resolve()));
  try {
    await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** A page of List Blobs as Azure writes it. `marker` of the next call is the last name of this one. */
export function listXml(container: string, prefix: string, page: StoredPage): string {
  const blobs = page.objects.map(
    (head) =>
      `<Blob><Name>${head.name}</Name><Properties>` +
      `<Creation-Time>${httpTime(head.createdUnixMs)}</Creation-Time>` +
      `<Last-Modified>${httpTime(head.createdUnixMs)}</Last-Modified>` +
      `<Etag>${etagOf(head).slice(1, -1)}</Etag>` +
      `<Content-Length>${head.sizeBytes}</Content-Length>` +
      `<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>` +
      `</Properties></Blob>`,
  );
  // Names and prefixes hold nothing that XML would have to escape.
  return (
    `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="${container}">` +
    `<Prefix>${prefix}</Prefix><Blobs>${blobs.join("")}</Blobs>` +
    `<NextMarker>${page.next ?? ""}</NextMarker></EnumerationResults>`
  );
}
