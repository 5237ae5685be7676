import assert from "node:assert/strict";
import { test } from "node:test";

import { uuid } from "@osr/base/uuid";

import { certificateNameOf, certificateUri } from "./certificate-name.ts";

const id = uuid("00000000-0000-4000-8000-000000000001");

test("a certificate's URI is read back", () => {
  const name = { role: "mobility-service", id } as const;
  assert.deepEqual(certificateNameOf(`DNS:x, URI:${certificateUri(name)}`), name);
});

test("no name, two names, an unknown role or a bad id give none", () => {
  const one = `URI:osr://mobility-service/${id}`;
  for (const text of [
    undefined,
    "",
    "DNS:x",
    `${one}, ${one}`,
    `URI:osr://root/${id}`,
    `${one}x`,
    `${one}/y`,
  ])
    assert.equal(certificateNameOf(text), undefined);
});
