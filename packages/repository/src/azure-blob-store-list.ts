import { OsrError } from "@osr/base/errors";

import type { BlobPage } from "./azure-blob-store-container.ts";
import { type ObjectHead, STORE_ERRORS } from "./object-store.ts";

const PROLOGUE = /^\uFEFF?\s*(?:<\?xml[^<>]*\?>)?/;
/** A tag or the text up to the next one. */
const PIECE = /<(?<slash>\/?)(?<tag>[A-Za-z][\w.-]*)(?<rest>[^<>]*)>|(?<text>[^<]+)/y;
const ENTITY = /&(?<entity>[^;&]{1,8});|&/g;
const ENTITIES: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
};
const BLOB = "EnumerationResults/Blobs/Blob";
/** Elements lie at most this deep, by the characters of all their names. */
const PATH_CHARS_MAX = 256;

/** What is read of an XML text: of each element its path, joined by slashes. */
type XmlReader = {
  onText(path: string, text: string, attributes: string): void;
  onEnd(path: string): void;
};

/**
 * A page of List Blobs: https://learn.microsoft.com/rest/api/storageservices/list-blobs
 * Elements, attributes, texts and entities are all that such a page consists of; whatever else is there is refused as
 * STORE_REFUSED. Microsoft's client and the XML parser behind it were three quarters of the modules that a program loaded
 * before it could read a recovery point.
 */
export function parseBlobPage(xml: string): BlobPage {
  const blobs: ObjectHead[] = [];
  let name: string | undefined;
  let length: string | undefined;
  let marker: string | undefined;
  let isWhole = false;
  readXml(xml, {
    onText(path, text, attributes) {
      if (path === "EnumerationResults/NextMarker") marker = text;
      if (path === `${BLOB}/Properties/Content-Length`) length = text;
      // A name that XML cannot hold.
      if (path === `${BLOB}/Name`)
        name = /\bEncoded="true"/.test(attributes) ? decoded(text) : text;
    },
    onEnd(path) {
      if (path === "EnumerationResults") isWhole = true;
      if (path !== BLOB) return;
      if (name === undefined || length === undefined || !/^\d{1,15}$/.test(length))
        throw malformed("a blob without name or length");
      blobs.push({ name, sizeBytes: Number(length) });
      name = undefined;
      length = undefined;
    },
  });
  if (!isWhole) throw malformed("no result");
  return { blobs, marker };
}

function readXml(xml: string, reader: XmlReader): void {
  let path = "";
  let attributes = "";
  let at = PROLOGUE.exec(xml)?.[0].length ?? 0;
  while (at < xml.length) {
    PIECE.lastIndex = at;
    const groups = PIECE.exec(xml)?.groups;
    if (groups === undefined) throw malformed(`no element at character ${at}`);
    at = PIECE.lastIndex;
    const { slash, tag = "", rest = "", text } = groups;
    if (text !== undefined) {
      if (path === "" && text.trim() !== "") throw malformed("text outside of all elements");
      reader.onText(path, withoutEntities(text), attributes);
    } else if (slash === "/") {
      if (path !== tag && !path.endsWith(`/${tag}`)) throw malformed(`the end of no ${tag}`);
      reader.onEnd(path);
      path = path.slice(0, -tag.length - 1);
    } else {
      const inner = path === "" ? tag : `${path}/${tag}`;
      if (inner.length > PATH_CHARS_MAX) throw malformed("too many elements within another");
      attributes = rest;
      if (rest.endsWith("/")) reader.onEnd(inner);
      else path = inner;
    }
  }
  if (path !== "") throw malformed(`no end of ${path}`);
}

function withoutEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replaceAll(ENTITY, (_whole, entity: string | undefined) => {
    const [, hex, decimal] = /^#(?:x([\dA-Fa-f]+)|(\d+))$/.exec(entity ?? "") ?? [];
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    const plain = code <= 0x10_ff_ff ? String.fromCodePoint(code) : ENTITIES[entity ?? ""];
    if (plain === undefined) throw malformed("an entity that is not known");
    return plain;
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw malformed("a name that is not encoded", cause);
  }
}

function malformed(what: string, cause?: unknown): OsrError {
  return new OsrError(
    STORE_ERRORS.STORE_REFUSED,
    `the storage account's list cannot be read: ${what}`,
    { cause },
  );
}
