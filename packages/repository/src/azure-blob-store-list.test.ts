import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { parseBlobPage } from "./azure-blob-store-list.ts";
import { STORE_ERRORS } from "./object-store.ts";
import { coded } from "./testing/coded-error.ts";

const page = (blobs: string, more = ""): string =>
  `<EnumerationResults><Blobs>${blobs}</Blobs>${more}</EnumerationResults>`;
const blob = (name: string, length = "1"): string =>
  `<Blob>${name}<Properties><Content-Length>${length}</Content-Length></Properties></Blob>`;

suite("List Blobs", () => {
  test("a page as Azure writes it, with a byte order mark, attributes and what nobody asked for", () => {
    const xml = `\uFEFF<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a.example/" ContainerName="osr"><Prefix>p/</Prefix><MaxResults>2</MaxResults>
      <Blobs><Blob><Name>p/1</Name><Properties><Creation-Time>Mon</Creation-Time><Content-Length>268435456</Content-Length><Content-MD5 /><Name>no</Name></Properties><OrMetadata /></Blob>
      <Blob><Name>p/2</Name><Properties><Content-Length>0</Content-Length></Properties></Blob></Blobs><NextMarker>2!96!MDAw&amp;</NextMarker></EnumerationResults>`;
    assert.deepEqual(parseBlobPage(xml), {
      blobs: [
        { name: "p/1", sizeBytes: 268_435_456 },
        { name: "p/2", sizeBytes: 0 },
      ],
      marker: "2!96!MDAw&",
    });
  });

  test("an empty page, and one without a marker", () => {
    const empty = { blobs: [], marker: undefined };
    assert.deepEqual(
      parseBlobPage("<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"),
      empty,
    );
    assert.deepEqual(parseBlobPage("<EnumerationResults />"), empty);
  });

  test("names of others: entities, and what XML cannot hold", () => {
    const names = [
      "<Name>a&amp;b&lt;&#x41;&#66;&quot;</Name>",
      `<Name Encoded="true">a%EF%BF%BEb</Name>`,
      "<Name>a%20b</Name>",
    ];
    const { blobs } = parseBlobPage(page(names.map((name) => blob(name)).join("")));
    assert.deepEqual(
      blobs.map(({ name }) => name),
      ['a&b<AB"', "a\uFFFEb", "a%20b"],
    );
  });

  for (const [what, xml] of Object.entries({
    nothing: "",
    "no XML": "<!doctype html><html></html>",
    "another element": "<Error><Code>x</Code></Error>",
    "a cut page": page(blob("<Name>a</Name>")).slice(0, -1),
    "elements that overlap": "<EnumerationResults><Blobs></EnumerationResults></Blobs>",
    "an end too many": `${page("")}</EnumerationResults>`,
    "text outside": `${page("")}x`,
    "a comment": page("<!-- -->"),
    "a section of its own": page("<![CDATA[<Blob>]]>"),
    "an unknown entity": page(blob("<Name>&nbsp;</Name>")),
    "a lone ampersand": page(blob("<Name>a&b</Name>")),
    "a character that is none": page(blob("<Name>&#x110000;</Name>")),
    "a name that is not encoded": page(blob(`<Name Encoded="true">%E0</Name>`)),
    "no name": page(blob("")),
    "no length": page("<Blob><Name>a</Name></Blob>"),
    "a length that is none": page(blob("<Name>a</Name>", "-1")),
    "elements without end": "<a>".repeat(100_000),
  }))
    test(`${what} is refused`, () => {
      assert.throws(() => parseBlobPage(xml), coded(STORE_ERRORS.STORE_REFUSED));
    });
});
