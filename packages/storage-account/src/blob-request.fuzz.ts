import assert from "node:assert/strict";
import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { LIST_PAGE_MAX, OBJECT_BYTES_MAX } from "@osr/repository/object-store";

import { parseBlobRequest } from "./blob-request.ts";

export type Random = { next(): number; of<T>(items: readonly T[]): T };

/** A small generator (mulberry32): the same seed gives the same requests. */
export function seeded(seed: number): Random {
  let state = seed;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    of: (items) => items[Math.floor(next() * items.length)] as (typeof items)[number],
  };
}

/** A request that is mostly wrong, in ways that a careless server could trip over. */
export function malformedRequest(random: Random): {
  method: string;
  path: string;
  headers: OutgoingHttpHeaders;
  body?: Buffer;
} {
  const method = random.of([
    "GET",
    "GET",
    "HEAD",
    "PUT",
    "PUT",
    "POST",
    "DELETE",
    "OPTIONS",
    "PATCH",
  ]);
  const pieces = [
    "osr",
    "fuzz",
    "x",
    "..",
    "%2e%2e",
    "%2f",
    "%00",
    "%ff",
    "%",
    "//",
    "etc",
    "passwd",
  ];
  const more = ["a".repeat(300), "%F0%9F%98%80", "~", "\\", "*", ".", "C:", "osr?", "&", "=", "#"];
  let path = random.of(["/", "/osr/", "/osr/fuzz/", "//", "*", "https://127.0.0.1/osr/", "/osr"]);
  const count = random.next() < 0.4 ? 0 : Math.floor(random.next() * 4);
  if (count === 0) path = random.of(["/osr/fuzz/x", "/osr/fuzz/new", "/osr/none", "/osr"]);
  for (let index = 0; index < count; index++)
    path += random.of([...pieces, ...more]) + random.of(["", "/"]);
  const parameters = ["restype=container", "comp=list", "comp=block", "prefix=..", "prefix=%00"];
  const others = ["marker=%ff", "maxresults=-1", "maxresults=99999", "startFrom=%00", "timeout=x"];
  if (path === "/osr") path += "?restype=container&comp=list&";
  else if (random.next() < 0.3) path += "?";
  if (path.endsWith("?") || (path.endsWith("&") && random.next() < 0.5)) {
    for (let index = 0; index < 3; index++) path += `${random.of([...parameters, ...others])}&`;
  }
  const headers: OutgoingHttpHeaders = {};
  const values = [
    "*",
    "",
    "x",
    "-1",
    "bytes=0-1",
    "bytes=9-99999999999999999999",
    "BlockBlob",
    '"',
  ];
  const names = [
    "x-ms-range",
    "range",
    "if-none-match",
    "if-match",
    "x-ms-blob-type",
    "x-ms-meta-oid",
  ];
  const odd = ["x-ms-version", "content-md5", "x-ms-lease-id", "expect", "x-ms-date", "upgrade"];
  const headerCount = random.next() < 0.5 ? 0 : 3;
  for (let index = 0; index < headerCount; index++)
    headers[random.of([...names, ...odd])] = random.of(values);
  if (random.next() < 0.3)
    Object.assign(headers, { "x-ms-blob-type": "BlockBlob", "if-none-match": "*" });
  const hasBody = method === "PUT" || method === "POST";
  return { method, path, headers, ...(hasBody ? { body: Buffer.from("0123456789") } : {}) };
}

const anyPath = fc.oneof(
  fc.string(),
  fc.webPath().map((path) => `/osr${path}`),
  fc.webQueryParameters().map((query) => `/osr?restype=container&comp=list&${query}`),
);

export const blobRequestFuzz = fuzzTarget(
  "blob-request",
  "requests to the storage account: refused with one of Azure's codes, or read within the limits",
  fc.property(fc.nat(2 ** 31), fc.option(anyPath), (seed, path) => {
    const malformed = malformedRequest(seeded(seed));
    const request = { ...malformed, url: path ?? malformed.path } as unknown as IncomingMessage;
    try {
      const read = parseBlobRequest(request, "osr");
      if (read.kind === "put-blob") assert.ok(read.sizeBytes <= OBJECT_BYTES_MAX);
      if (read.kind === "list-blobs") assert.ok(read.pageMax >= 1 && read.pageMax <= LIST_PAGE_MAX);
      if (read.kind === "get-blob" && read.range !== undefined)
        assert.ok((read.range.last ?? Infinity) >= read.range.first);
    } catch (error) {
      if (!(error instanceof OsrError) || error.code !== "BLOB_REQUEST_REFUSED") throw error;
    }
  }),
);
