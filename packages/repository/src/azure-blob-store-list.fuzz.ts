import assert from "node:assert/strict";

import * as fc from "fast-check";

import { fuzzTarget } from "@osr/base/testing/fuzz-target";
import { mutated, mutations } from "@osr/base/testing/mutated-bytes";

import { parseBlobPage } from "./azure-blob-store-list.ts";
import { assertCoded } from "./testing/coded-error.ts";

const blobs = fc.array(
  fc.record(
    { name: fc.string({ minLength: 1, unit: "grapheme-ascii" }), sizeBytes: fc.nat(2 ** 28) },
    { noNullPrototype: true },
  ),
  { maxLength: 5 },
);
const markers = fc.string({ minLength: 1, unit: "grapheme-ascii" });

export const blobPageFuzz = fuzzTarget(
  "blob-page",
  "pages of a storage account's list: what is in them, or an error where they were changed",
  fc.property(blobs, markers, mutations, (objects, marker, changes) => {
    const xml = Buffer.from(pageOf(objects, marker));
    const bytes = mutated(xml, changes);
    try {
      const page = parseBlobPage(bytes.toString("utf8"));
      if (bytes.equals(xml)) assert.deepEqual(page, { blobs: objects, marker });
    } catch (error) {
      if (error instanceof assert.AssertionError || bytes.equals(xml)) throw error;
      assertCoded(error);
    }
  }),
);

function pageOf(
  objects: readonly { readonly name: string; readonly sizeBytes: number }[],
  marker: string,
): string {
  const elements = objects.map(
    ({ name, sizeBytes }) =>
      `<Blob><Name>${escaped(name)}</Name><Properties><Content-Length>${sizeBytes}</Content-Length></Properties></Blob>`,
  );
  return (
    `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="osr">` +
    `<Blobs>${elements.join("")}</Blobs><NextMarker>${escaped(marker)}</NextMarker></EnumerationResults>`
  );
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
