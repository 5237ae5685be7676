import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import * as fc from "fast-check";

import { OsrError } from "@osr/base/errors";
import { uuidOfName } from "@osr/base/uuid";

import { identityFile } from "./role-identity.ts";
import { httpsUrl, serverAddress } from "./server-address.ts";

test("an identity is one file that only its owner reads, and damage is named", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "osr-identity-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "deep", "identity.json");
  const store = identityFile(path);
  assert.equal(store.read(), undefined);
  const pems = { certificatePem: "c", privateKeyPem: "k", authorityPem: "a" };
  const identity = { id: uuidOfName("x"), configurationServer: "[::1]:4443", ...pems };
  store.write(identity);
  // What a crash left behind, readable by all.
  writeFileSync(`${path}.new`, "half", { mode: 0o644 });
  store.write({ ...identity, certificatePem: "new" });
  assert.deepEqual(store.read(), { ...identity, certificatePem: "new" });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(join(folder, "deep")), ["identity.json"]);
  writeFileSync(path, '{"id": 3}');
  assert.throws(
    () => store.read(),
    (error) => error instanceof OsrError && error.code === "IDENTITY_INVALID",
  );
});

test("an address is a host with a port, or refused", () => {
  assert.equal(httpsUrl(serverAddress("[fe80::1]:443")), "https://[fe80::1]:443");
  assert.deepEqual(serverAddress("cs.example.org:4443"), { host: "cs.example.org", port: 4443 });
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), (text) => {
      try {
        const { host, port } = serverAddress(text);
        assert.ok(port >= 1 && port <= 65_535 && host !== "");
        assert.equal(new URL(httpsUrl({ host: "h", port })).hostname, "h");
      } catch (error) {
        assert.ok(error instanceof OsrError && error.code === "ADDRESS_INVALID");
      }
    }),
  );
});
